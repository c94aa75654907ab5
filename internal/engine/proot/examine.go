package proot

import (
	"errors"
	"fmt"

	"proot-distro/internal/host"
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
	bin, err := Find(h)
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
	if p.failure != "" {
		err = fmt.Errorf("%w: no program runs under it here: %s", ErrUnusable, p.failure)
	}
	return a, err
}
