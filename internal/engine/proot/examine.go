package proot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"proot-distro/internal/host"
	"proot-distro/internal/platform"
)

// ErrUnusable says that there is a proot which does not work.
var ErrUnusable = errors.New("proot cannot be used")

// Abilities is what a proot binary can do on this machine.
type Abilities struct {
	Path    string `json:"path,omitempty"`
	Version string `json:"version,omitempty"`
	// Leaks are system calls that show guests the host's files, and LeaksRefused says
	// that a filter answers them with an error, so that guests fall back to others.
	Leaks        []string `json:"leaks,omitempty"`
	LeaksRefused bool     `json:"leaks_refused"`

	KernelRelease bool `json:"kernel_release"` // --kernel
	Hostname      bool `json:"hostname"`
	HardLinks     bool `json:"link2symlink"` // stands symbolic links in for them
	SysVIPC       bool `json:"sysvipc"`
	KillOnExit    bool `json:"kill_on_exit"`
	RedirectPorts bool `json:"redirect_ports"`
	// No proot has read-only binds; see [Engine.Prepare].
}

// Examine finds proot and tries it anew, whatever is remembered of it. Its errors are
// those of [New]; with [ErrUnusable], the program may be known all the same.
func Examine(h *host.Host) (Abilities, error) {
	if TracedByProot() {
		return Abilities{}, ErrNested
	}
	bin, err := find(h)
	if err != nil {
		return Abilities{}, err
	}
	p, err := run(bin, h.Arch, scratchPlaces(h))
	if err != nil {
		return Abilities{Path: bin}, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	a := Abilities{
		Path: bin, Version: p.Version,
		Leaks: p.Escaping, LeaksRefused: p.CanFilter,
		KernelRelease: p.wholeUname() || p.KernelRelease, Hostname: p.wholeUname(),
		HardLinks: p.has(linkOption), SysVIPC: p.has("--sysvipc"), KillOnExit: p.has("--kill-on-exit"), RedirectPorts: p.has("-p"),
	}
	if err := tryRun(bin, h.Arch, scratchPlaces(h)); err != nil {
		return a, fmt.Errorf("%w: no program runs under it here: %w", ErrUnusable, err)
	}
	return a, nil
}

// getpid is a call that nobody forbids.
var getpid = map[platform.Arch]uint64{
	platform.X86_64: 39, platform.I686: 20, platform.ARM: 20, platform.AArch64: 172, platform.RISCV64: 172,
}

// tryRun runs a program that asks for its process ID and writes it. The guest of a probe does not
// tell whether programs run: where its calls are forbidden, it dies of them.
func tryRun(bin string, cpu platform.Arch, scratch []string) error {
	dir, err := scratchDir(scratch)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	table := func(a platform.Arch, _ func(string) uint64) [][7]uint64 { return [][7]uint64{{getpid[a]}} }
	if err := os.WriteFile(filepath.Join(dir, guestProgram), callingELF(cpu, table), 0o755); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, "--rootfs="+dir, "--cwd=/", guestProgram)
	cmd.Env, cmd.Dir, cmd.WaitDelay = []string{}, "/", time.Second
	out, err := cmd.Output()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		if said, _, _ := strings.Cut(strings.TrimSpace(string(exit.Stderr)), "\n"); said != "" {
			return errors.New(said)
		}
	}
	if err == nil && len(out) != 4 && len(out) != 8 { // a word
		err = errors.New("it ended without having run anything")
	}
	return err
}
