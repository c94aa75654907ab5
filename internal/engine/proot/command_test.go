package proot

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
	"proot-distro/internal/platform"
	"proot-distro/internal/report"
)

// modern is an engine whose proot can do all that a Spec may ask for.
func modern() *Engine {
	return &Engine{
		bin: "/opt/proot", getenv: func(string) string { return "" },
		probe: probe{Version: "5.1.107", Options: []string{"--rootfs=path", "--bind=path", "-p"}, KernelRelease: true},
	}
}

func old() *Engine {
	e := modern()
	e.probe = probe{Version: "5.1.0", Options: []string{"--rootfs=path", "--bind=path", "-p string"}}
	return e
}

func TestOptions(t *testing.T) {
	dir := t.TempDir()
	base := engine.Spec{Container: "box", Rootfs: "/r", WorkDir: "/root", Argv: []string{"/bin/sh"}}
	with := func(change func(*engine.Spec)) engine.Spec {
		s := base
		change(&s)
		return s
	}
	common := []string{"--change-id=0:0", "--rootfs=/r", "--cwd=/root", "--bind=/dev", "--bind=/proc", "--bind=/sys"}
	tests := []struct {
		name string
		spec engine.Spec
		want []string // beyond common
	}{
		{"plain", base, []string{"--verbose=-1"}},
		{"binds", with(func(s *engine.Spec) { s.Binds = []engine.Bind{{Source: dir, Target: "/a b"}} }),
			[]string{"--bind=" + dir + ":/a b", "--verbose=-1"}},
		{"emulator", with(func(s *engine.Spec) { s.Emulator = "/usr/bin/qemu-arm" }), []string{"--qemu=/usr/bin/qemu-arm", "--verbose=-1"}},
		{"ports", with(func(s *engine.Spec) { s.RedirectPorts = true }), []string{"-p", "--verbose=-1"}},
	}
	for _, tt := range tests {
		got, err := modern().options(tt.spec)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if diff := cmp.Diff(append(append([]string{}, common...), tt.want...), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// fork is an engine with Termux's proot.
func fork() *Engine {
	e := modern()
	e.probe.Options = append(e.probe.Options, "--link2symlink", "--sysvipc", "--kill-on-exit", "-L", "-H")
	e.probe.KernelRelease = false // its own emulation is not that of the probe
	return e
}

const androidUname = `--kernel-release=\Linux\localhost\6.17.0-PRoot-Distro\#1 SMP PREEMPT_DYNAMIC Fri, 10 Oct 2025 00:00:00 +0000\armv7l\localdomain\-1\`

func TestFeatures(t *testing.T) {
	all := engine.Features{HardLinks: true, LinkDir: "/r/.l2s", LinkSizes: true, SysVIPC: true, KillOnExit: true, Uname: true}
	base := engine.Spec{Container: "box", Rootfs: "/r", WorkDir: "/", Argv: []string{"/bin/sh"}, Arch: platform.ARM}
	with := func(change func(*engine.Spec)) engine.Spec {
		s := base
		s.Features = all
		change(&s)
		return s
	}
	tests := []struct {
		name     string
		engine   *Engine
		spec     engine.Spec
		want     []string // what stands before --rootfs
		settings []string
		warning  string
	}{
		{"none", fork(), base, []string{"--change-id=0:0"}, nil, ""},
		{"all", fork(), with(func(*engine.Spec) {}),
			[]string{"--kill-on-exit", "--link2symlink", "--sysvipc", "-L", androidUname, "--change-id=0:0"}, []string{"PROOT_L2S_DIR=/r/.l2s"}, ""},
		{"real identity", fork(), with(func(s *engine.Spec) { s.User.Real, s.Features = true, engine.Features{} }), nil, nil, ""},
		{"wishes over defaults", fork(), with(func(s *engine.Spec) { s.Hostname, s.KernelRelease = "h", "5.4.0" }),
			[]string{"--kill-on-exit", "--link2symlink", "--sysvipc", "-L",
				strings.NewReplacer("localhost", "h", "6.17.0-PRoot-Distro", "5.4.0").Replace(androidUname), "--change-id=0:0"},
			[]string{"PROOT_L2S_DIR=/r/.l2s"}, ""},
		{"a proot that has none", old(), with(func(*engine.Spec) {}), []string{"--change-id=0:0"}, nil, "does not emulate hard links"},
		{"a proot that has the release", modern(), with(func(s *engine.Spec) { s.Features.HardLinks = false }),
			[]string{"--kernel-release=6.17.0-PRoot-Distro", "--change-id=0:0"}, nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rec := &recorder{Reporter: report.Discard}
			tt.engine.report = rec
			got, err := tt.engine.options(tt.spec)
			must(t, err)
			got = got[:slices.IndexFunc(got, func(o string) bool { return strings.HasPrefix(o, "--rootfs=") })]
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.settings, tt.engine.settings(tt.spec)); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
			if warned := strings.Join(rec.warnings, "\n"); (warned == "") != (tt.warning == "") || !strings.Contains(warned, tt.warning) {
				t.Errorf("warned %q, want %q", warned, tt.warning)
			}
		})
	}
}

// Without the feature, the rest of uname(2) is this machine's.
func TestHostnameAlone(t *testing.T) {
	var uts unix.Utsname
	must(t, unix.Uname(&uts))
	got, err := fork().uname(engine.Spec{Hostname: "elsewhere", Arch: platform.AArch64})
	must(t, err)
	want := `--kernel-release=\Linux\elsewhere\` + unix.ByteSliceToString(uts.Release[:]) + `\` +
		unix.ByteSliceToString(uts.Version[:]) + `\aarch64\localdomain\-1\`
	if len(got) != 1 || got[0] != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestPendingBindNeedNotExist(t *testing.T) {
	dir := t.TempDir()
	got, err := modern().bind(engine.Bind{Source: dir + "/later", Target: "/dev/shm", Pending: true})
	if err != nil || got != dir+"/later:/dev/shm" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestVerbosityFollowsUser(t *testing.T) {
	e := modern()
	e.getenv = func(name string) string { return map[string]string{"PROOT_VERBOSE": "2"}[name] }
	if got, env := e.verbosity(engine.Spec{}), e.settings(engine.Spec{}); got != "--verbose=2" || !slices.Equal(env, []string{"PROOT_VERBOSE=2"}) {
		t.Error(got, env)
	}
	if got, env := e.verbosity(engine.Spec{Silent: true}), e.settings(engine.Spec{Silent: true}); got != "--verbose=-1" || len(env) > 0 {
		t.Error(got, env)
	}
}

func TestUnsupported(t *testing.T) {
	dir := t.TempDir()
	colon := filepath.Join(dir, "a:b")
	must(t, os.Mkdir(colon, 0o755))
	bind := func(b engine.Bind) func(*engine.Spec) {
		return func(s *engine.Spec) { s.Binds = []engine.Bind{b} }
	}
	tests := []struct {
		name   string
		engine *Engine
		change func(*engine.Spec)
		parts  []string
	}{
		{"ports", old(), func(s *engine.Spec) { s.RedirectPorts = true }, []string{"proot 5.1.0", "--redirect-ports"}},
		{"hostname", modern(), func(s *engine.Spec) { s.Hostname = "x" }, []string{"--hostname"}},
		{"kernel", old(), func(s *engine.Spec) { s.KernelRelease = "6" }, []string{"--kernel", "5.2"}},
		{"read-only", modern(), bind(engine.Bind{Source: dir, Target: "/x", ReadOnly: true}), []string{"read-only", ":ro"}},
		{"colon in source", modern(), bind(engine.Bind{Source: colon, Target: "/x"}), []string{colon, "colon"}},
		{"colon in target", modern(), bind(engine.Bind{Source: dir, Target: "/x:y"}), []string{"/x:y", "colon"}},
		{"mark in target", modern(), bind(engine.Bind{Source: dir, Target: "/x!"}), []string{"/x!", "exclamation"}},
		{"emulator", modern(), func(s *engine.Spec) { s.Emulator = "/a b/qemu" }, []string{"/a b/qemu", "space"}},
		{"loader variable", modern(), func(s *engine.Spec) { s.Env = []string{"LD_PRELOAD=x.so"} }, []string{"LD_PRELOAD"}},
		{"proot variable", modern(), func(s *engine.Spec) { s.Env = []string{"PROOT_VERBOSE=9"} }, []string{"PROOT_VERBOSE"}},
	}
	for _, tt := range tests {
		s := newSpec(dir, "/bin/sh")
		tt.change(&s)
		_, err := tt.engine.Prepare(s)
		wantContains(t, err, tt.parts...)
		if !errors.As(err, new(*engine.Unsupported)) {
			t.Errorf("%s: %v is not an Unsupported", tt.name, err)
		}
	}
}

func TestPrepareRefuses(t *testing.T) {
	dir := t.TempDir()
	foreign := platform.RISCV64
	if platform.Binary() == foreign {
		foreign = platform.X86_64
	}
	tests := []struct {
		name   string
		change func(*engine.Spec)
		parts  []string
	}{
		{"no command", func(s *engine.Spec) { s.Argv = nil }, []string{"box", "no command"}},
		{"no rootfs", func(s *engine.Spec) { s.Rootfs = filepath.Join(dir, "gone") }, []string{"box", "gone"}},
		{"relative work directory", func(s *engine.Spec) { s.WorkDir = "src" }, []string{`"src"`}},
		{"foreign without emulator", func(s *engine.Spec) { s.Arch = foreign }, []string{string(foreign), "emulator"}},
		{"missing bind source", func(s *engine.Spec) {
			s.Binds = []engine.Bind{{Source: filepath.Join(dir, "gone"), Target: "/x"}}
		}, []string{filepath.Join(dir, "gone"), "does not exist"}},
		{"bad variable", func(s *engine.Spec) { s.Env = []string{"NOVALUE"} }, []string{"NOVALUE", "KEY=VALUE"}},
	}
	for _, tt := range tests {
		s := newSpec(dir, "/bin/sh")
		tt.change(&s)
		_, err := modern().Prepare(s)
		wantContains(t, err, tt.parts...)
	}
	p, err := modern().Prepare(newSpec(dir, "--version"))
	must(t, err)
	_, err = p.Run(context.Background(), engine.Stdio{})
	wantContains(t, err, `"--version"`, "dash")
}

// TestCommandLine pastes the printed command into a shell.
func TestCommandLine(t *testing.T) {
	e := newEngine(t, nil)
	s := newSpec(newRootfs(t), "/bin/sh", "-c", `echo "$GREETING"; echo "$1"`, "sh", "it's $HOME\nand more")
	s.Env = append(s.Env, "GREETING=a  'quoted' \\ word")
	s.Shell = "/bin/sh"
	p, err := e.Prepare(s)
	must(t, err)
	line := p.(*Process).CommandLine()
	out, err := exec.Command("/bin/sh", "-c", line).CombinedOutput()
	if want := "a  'quoted' \\ word\nit's $HOME\nand more\n"; err != nil || string(out) != want {
		t.Errorf("%v: got %q, want %q from\n%s", err, out, want, line)
	}
}
