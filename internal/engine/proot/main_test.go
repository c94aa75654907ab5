package proot

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"proot-distro/internal/engine"
	"proot-distro/internal/engine/enginetest"
	"proot-distro/internal/host"
	"proot-distro/internal/platform"
	"proot-distro/internal/report"
)

// execVar makes the test binary a program that runs one Spec with Exec: Exec
// replaces the process, or needs one of its own.
const execVar = "PD_TEST_EXEC"

var (
	newRootfs = enginetest.Rootfs
	newSpec   = enginetest.Spec
	must      = enginetest.Must
)

type execRequest struct {
	Spec  engine.Spec
	Home  string
	Keep  string // file to open, lock and keep
	Extra string // file that a careless parent left open
}

func TestMain(m *testing.M) {
	request := os.Getenv(execVar)
	if request == "" {
		os.Exit(m.Run())
	}
	status, err := serve(request)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 99
	}
	os.Exit(status)
}

func serve(request string) (int, error) {
	var r execRequest
	if err := json.Unmarshal([]byte(request), &r); err != nil {
		return 0, err
	}
	e, err := New(Config{Host: hostAt(r.Home, os.Getenv), Reporter: report.Discard})
	if err != nil {
		return 0, err
	}
	p, err := e.Prepare(r.Spec)
	if err != nil {
		return 0, err
	}
	var keep []*os.File
	if r.Keep != "" {
		f, err := os.Create(r.Keep)
		if err != nil {
			return 0, err
		}
		keep = append(keep, f)
	}
	if r.Extra != "" {
		f, err := os.Open(r.Extra)
		if err != nil {
			return 0, err
		}
		if err := keepOnExec(f); err != nil {
			return 0, err
		}
	}
	return p.Exec(keep)
}

func hostAt(home string, getenv func(string) string) *host.Host {
	return &host.Host{
		Home: home, Arch: platform.Binary(), Getenv: getenv,
		Dirs: host.Dirs{Runtime: filepath.Join(home, "data"), Cache: filepath.Join(home, "cache")},
	}
}

// a recorder is a Reporter that remembers warnings.
type recorder struct {
	report.Reporter
	warnings []string
}

func (r *recorder) Warnf(format string, args ...any) {
	r.warnings = append(r.warnings, fmt.Sprintf(format, args...))
}

// getenvOf serves the given variables, with the real PATH.
func getenvOf(vars map[string]string) func(string) string {
	return func(name string) string {
		if value, ok := vars[name]; ok || name != "PATH" {
			return value
		}
		return os.Getenv("PATH")
	}
}

func newEngine(t *testing.T, vars map[string]string) *Engine {
	t.Helper()
	e, err := New(Config{Host: hostAt(t.TempDir(), getenvOf(vars)), Reporter: report.Discard})
	if err != nil {
		t.Fatalf("these tests need Debian's package proot: %v", err)
	}
	return e
}

// runSpec runs a Spec and returns its output and status.
func runSpec(t *testing.T, e *Engine, s engine.Spec) (string, int) {
	t.Helper()
	return enginetest.Run(t, e, s)
}

// execCommand gives a process that hands itself over to Exec.
func execCommand(t *testing.T, r execRequest) *exec.Cmd {
	t.Helper()
	r.Home = t.TempDir()
	request, err := json.Marshal(r)
	must(t, err)
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), execVar+"="+string(request))
	return cmd
}

func wantContains(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one about %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not mention %q", err, part)
		}
	}
}
