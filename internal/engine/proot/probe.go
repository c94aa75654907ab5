package proot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/internal/host"
	"proot-distro/internal/platform"
	"proot-distro/internal/rootfs"
)

// A probe is what is known of one proot binary on one kernel.
type probe struct {
	Version string   `json:"version"`
	Options []string `json:"options"` // as --help spells them: "-r path", "--kill-on-exit"
	// Escaping lists those of probedCalls whose paths proot leaves alone.
	Escaping []string `json:"escaping"`
	// KernelRelease is false where -k makes programs of glibc 2.33 and newer fail.
	KernelRelease bool `json:"kernel_release"`
	// CanFilter says that escaping calls can be refused by seccomp.
	CanFilter bool `json:"can_filter"`
	// Warned is set once the user was told of a leak that cannot be closed.
	Warned bool `json:"warned,omitempty"`
}

// has reports whether proot knows an option. A flag without a value is spelled
// alone ("-p"); "-p string" is another option.
func (p probe) has(option string) bool { return slices.Contains(p.Options, option) }

// wholeUname reports whether proot is Termux's fork, which takes all fields of uname(2)
// as the value of --kernel-release.
func (p probe) wholeUname() bool { return p.has(linkOption) }

// identity is what a remembered probe holds for: file and kernel.
type identity struct {
	Path   string `json:"path"`
	Dev    uint64 `json:"dev"`
	Ino    uint64 `json:"ino"`
	Size   int64  `json:"size"`
	MTime  int64  `json:"mtime"` // nanoseconds since 1970
	Kernel string `json:"kernel"`
}

func identify(bin string) (identity, error) {
	var st unix.Stat_t
	if err := unix.Stat(bin, &st); err != nil {
		return identity{}, fmt.Errorf("look at %s: %w", bin, err)
	}
	var uts unix.Utsname
	_ = unix.Uname(&uts) // cannot fail with a valid pointer
	return identity{
		Path: bin, Dev: uint64(st.Dev), Ino: st.Ino, Size: st.Size, MTime: st.Mtim.Nano(),
		Kernel: unix.ByteSliceToString(uts.Release[:]),
	}, nil
}

// A memory keeps probes as small JSON files. Losing one costs a new probe, so
// what cannot be read or written is no error.
type memory struct {
	dirs host.Dirs
}

// maxProbe bounds the file, which on Termux a guest can replace.
const maxProbe = 64 << 10

// probeFormat changes when probe changes meaning.
const probeFormat = 1

type remembered struct {
	Format   int      `json:"format"`
	Identity identity `json:"identity"`
	Probe    probe    `json:"probe"`
}

// file is the name of a binary's probe below dirs.Cache.
func (m memory) file(id identity) (string, error) {
	sum := sha256.Sum256([]byte(id.Path))
	return filepath.Rel(m.dirs.Cache, filepath.Join(m.dirs.Probes(), hex.EncodeToString(sum[:8])+".json"))
}

func (m memory) recall(id identity) (probe, bool) {
	name, err := m.file(id)
	if err != nil {
		return probe{}, false
	}
	tree, err := rootfs.OpenState(m.dirs.Runtime, m.dirs.Cache, false)
	if err != nil {
		return probe{}, false
	}
	defer tree.Close()
	data, err := tree.ReadFile(name, maxProbe)
	if err != nil {
		return probe{}, false
	}
	var r remembered
	if json.Unmarshal(data, &r) != nil || r.Format != probeFormat || r.Identity != id {
		return probe{}, false
	}
	return r.Probe, true
}

func (m memory) remember(id identity, p probe) {
	name, err := m.file(id)
	if err != nil {
		return
	}
	data, err := json.Marshal(remembered{probeFormat, id, p})
	if err != nil {
		return
	}
	tree, err := rootfs.OpenState(m.dirs.Runtime, m.dirs.Cache, true)
	if err != nil {
		return
	}
	defer tree.Close()
	if tree.MkdirAll(filepath.Dir(name), 0o755) == nil {
		_ = tree.WriteFile(name, data, 0o644)
	}
}

// run probes a binary by executing it, at most a few times.
func run(bin string, cpu platform.Arch, scratch []string) (probe, error) {
	help, err := output(bin, "--help")
	if err != nil {
		return probe{}, err
	}
	p := probe{Options: parseHelp(help), CanFilter: canFilter()}
	if !p.has("--rootfs=path") || !p.has("--bind=path") {
		return probe{}, fmt.Errorf("%s does not look like proot: its --help does not name --rootfs and --bind", bin)
	}
	version, err := output(bin, "--version")
	if err != nil {
		return probe{}, err
	}
	p.Version = parseVersion(version)
	p.Escaping, p.KernelRelease = observe(bin, cpu, scratch)
	return p, nil
}

// output runs proot without a guest, with its exit status ignored: some versions
// fail after printing their help.
func output(bin, arg string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, arg)
	cmd.Env = []string{}
	cmd.WaitDelay = time.Second
	text, err := cmd.Output()
	if len(text) == 0 && err != nil {
		return "", fmt.Errorf("run %s %s: %w", bin, arg, err)
	}
	return string(text), nil
}

const probeTimeout = 10 * time.Second

var versionPattern = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`v?(\d+\.\d+[\w.-]*)`)
})

// parseVersion finds the version in the banner of --version, whose first line
// may be a drawing.
func parseVersion(text string) string {
	if m := versionPattern().FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return "of unknown version"
}

// parseHelp collects the spellings of options: lines of --help that are indented
// by two spaces and start with a dash, as in "  -r *path*, --rootfs=*path*".
func parseHelp(text string) []string {
	var options []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "  -") {
			continue
		}
		for spelling := range strings.SplitSeq(strings.TrimSpace(line), ", ") {
			options = append(options, strings.ReplaceAll(spelling, "*", ""))
		}
	}
	return options
}

// scratchPlaces are the directories that may serve for a probe. On Termux the system
// has no place for temporary files.
func scratchPlaces(h *host.Host) []string {
	places := []string{os.TempDir(), h.Dirs.Cache, h.Dirs.Runtime}
	if h.Termux {
		places = append([]string{filepath.Join(h.Prefix, "tmp")}, places...)
	}
	return places
}

// scratchDir makes a directory in the first of several places that allows it.
func scratchDir(places []string) (string, error) {
	var err error
	for _, place := range places {
		var dir string
		if dir, err = os.MkdirTemp(place, "proot-probe-"); err == nil {
			return dir, nil
		}
	}
	if err == nil {
		err = fs.ErrNotExist
	}
	return "", err
}
