package native

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
	"proot-distro/internal/engine/enginetest"
	"proot-distro/test/fixtures"
)

// What makes the test binary something else than tests.
const (
	execVar    = "PD_TEST_EXEC"    // a program that runs one Spec with Exec
	probeVar   = "PD_TEST_PROBE"   // a program that probes in the given circumstances
	guestVar   = "PD_TEST_GUEST"   // the guest's program
	unshareVar = "PD_TEST_UNSHARE" // a program that runs itself again in namespaces
	againVar   = "PD_TEST_AGAIN"   // the tests, run by an ordinary user
)

const ordinaryUser = 65534

var (
	newRootfs = enginetest.Rootfs
	newSpec   = enginetest.Spec
	must      = enginetest.Must
)

func TestMain(m *testing.M) {
	var err error
	status := 0
	switch {
	case os.Getenv(execVar) != "":
		status, err = serveExec(os.Getenv(execVar))
	case os.Getenv(probeVar) != "":
		err = serveProbe(os.Getenv(probeVar))
	case os.Getenv(unshareVar) != "":
		status, err = serveUnshare(os.Getenv(unshareVar))
	case os.Getenv(guestVar) == "chown":
		serveChown()
	case os.Getenv(guestVar) != "":
		serveGuest()
	default:
		fixtures.ObeySignals()
		status = m.Run()
		if os.Getuid() == 0 && os.Getenv(againVar) == "" && status == 0 {
			status, err = runAgain()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 99
	}
	os.Exit(status)
}

// runAgain runs the tests as an ordinary user, for whom most differs.
func runAgain() (int, error) {
	fmt.Println("The same tests as an ordinary user:")
	dir, err := os.MkdirTemp("", "pd-native-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o777); err != nil {
		return 0, err
	}
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return 0, err
	}
	copied := filepath.Join(dir, "native.test")
	if err := os.WriteFile(copied, program, 0o755); err != nil {
		return 0, err
	}
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(arg string) bool {
		return strings.HasPrefix(arg, "-test.testlogfile") // in a directory of root's
	})
	cmd := exec.Command(copied, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), againVar+"=1", "TMPDIR="+dir, "HOME="+dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinaryUser, Gid: ordinaryUser}}
	if err := cmd.Run(); cmd.ProcessState == nil {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

type execRequest struct {
	Spec engine.Spec
	Keep string // file to open and keep
	Join int    // session to join, if not 0
	In   string // circumstances, see [changeCircumstances]
}

func serveExec(request string) (int, error) {
	var r execRequest
	if err := json.Unmarshal([]byte(request), &r); err != nil {
		return 0, err
	}
	if err := changeCircumstances(r.In); err != nil {
		return 0, err
	}
	p, err := Untried().Prepare(r.Spec)
	if r.Join != 0 {
		p, err = Join(r.Join, r.Spec)
	}
	if err != nil {
		return 0, err
	}
	if process, ok := p.(*Process); ok && r.In == hostTable {
		process.binfmt = false // as on kernels that have only the host's table
	}
	// What a careless parent left open.
	if fd, err := unix.Open("/etc", unix.O_RDONLY, 0); err != nil || fd < 3 {
		return 0, fmt.Errorf("open /etc: %d, %w", fd, err)
	}
	var keep []*os.File
	if r.Keep != "" {
		f, err := os.Create(r.Keep)
		if err != nil {
			return 0, err
		}
		keep = append(keep, f)
	}
	return p.Exec(keep)
}

// execCommand gives a process that runs a Spec with Exec.
func execCommand(t *testing.T, r execRequest) *exec.Cmd {
	t.Helper()
	request, err := json.Marshal(r)
	must(t, err)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), execVar+"="+string(request))
	return cmd
}

func newEngine(t *testing.T) *Engine {
	t.Helper()
	e, err := New()
	if err != nil {
		t.Fatalf("these tests need user namespaces: %v", err)
	}
	return e
}

func script(root, text string) engine.Spec { return newSpec(root, "/bin/sh", "-c", text) }

// runSpec runs a Spec and returns its output and status.
func runSpec(t *testing.T, s engine.Spec) (string, int) {
	t.Helper()
	return enginetest.Run(t, newEngine(t), s)
}

// wantOutput runs a script as the guest and compares what it says.
func wantOutput(t *testing.T, s engine.Spec, want string) {
	t.Helper()
	if out, status := runSpec(t, s); out != want || status != 0 {
		t.Errorf("status %d, output:\n%s\nwant:\n%s", status, out, want)
	}
}
