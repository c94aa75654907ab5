package proot

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proot-distro/internal/engine"
	"proot-distro/internal/platform"
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
		{"kernel", with(func(s *engine.Spec) { s.KernelRelease = "6.1.0" }), []string{"--kernel-release=6.1.0", "--verbose=-1"}},
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

func TestVerbosityFollowsUser(t *testing.T) {
	e := modern()
	e.getenv = func(name string) string { return map[string]string{"PROOT_VERBOSE": "2"}[name] }
	if got := e.verbosity(); got != "--verbose=2" {
		t.Error(got)
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
