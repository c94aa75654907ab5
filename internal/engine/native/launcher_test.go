package native

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLauncher runs the launcher as a program. It can be cross-built, and run by an emulator that
// EMULATOR names.
func TestLauncher(t *testing.T) {
	program := filepath.Join(t.TempDir(), "launcher")
	must(t, os.WriteFile(program, launcherELF(), 0o755))
	run := func(args ...string) (out string, status int, report []byte) {
		r, w, err := os.Pipe()
		must(t, err)
		defer r.Close()
		cmd := exec.Command(program)
		cmd.Args = args
		if emulator := os.Getenv("EMULATOR"); emulator != "" {
			cmd = exec.Command(emulator, append([]string{"-0", args[0], program}, args[1:]...)...)
		}
		cmd.Env = []string{"GREETING=hello"}
		cmd.ExtraFiles = []*os.File{w}
		var text bytes.Buffer
		cmd.Stdout = &text
		_ = cmd.Run() // the status tells
		w.Close()
		buf := make([]byte, 8)
		n, _ := r.Read(buf)
		return text.String(), cmd.ProcessState.ExitCode(), buf[:n]
	}
	out, status, report := run("/nowhere/sh", "/bin/sh", "/bin/false", "", "name", "-c", `echo $0 $GREETING $1 "$2"; exit 7`, "a", "b", "")
	if out != "a hello b \n" || status != 7 || len(report) > 0 {
		t.Errorf("%q, status %d, report %v", out, status, report)
	}
	if _, status, report = run("no", "end"); status != 127 || len(report) > 0 {
		t.Errorf("status %d, report %v", status, report)
	}
	_, status, report = run("/nowhere/sh", "", "name")
	if status != 127 || len(report) != launcherReport || int32(binary.LittleEndian.Uint32(report)) != -int32(unix.ENOENT) {
		t.Errorf("status %d, report %v", status, report)
	}
}

// TestNamelessLauncher runs the launcher where it is on disk.
func TestNamelessLauncher(t *testing.T) {
	dir := t.TempDir()
	fd, err := launcherIn(dir)
	must(t, err)
	defer unix.Close(fd)
	cmd := exec.Command(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd))
	cmd.Args = []string{"/bin/echo", "", "echo", "works"}
	if out, err := cmd.Output(); string(out) != "works\n" {
		t.Errorf("%q, %v", out, err)
	}
	if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestOwnProgram has guests start what /proc/self/exe is when their process executes a program.
func TestOwnProgram(t *testing.T) {
	root := newRootfs(t)
	must(t, os.Symlink("/proc/self/exe", filepath.Join(root, "bin/link")))
	must(t, os.WriteFile(filepath.Join(root, "bin/script"), []byte("#!/proc/self/exe\n"), 0o755))
	pid, _ := running(t, nil)
	for _, program := range []string{"/bin/link", "/bin/script", "/proc/self/exe"} {
		s := newSpec(root, program, "-c", "echo reached")
		s.Env = append(s.Env, guestVar+"=1") // this test program would say something
		if out, status := runSpec(t, s); status != 127 || out != "" {
			t.Errorf("%s: status %d: %s", program, status, out)
		}
		if out, status, err := joined(t, pid, s); program == "/proc/self/exe" && (status != 127 || out != "" || err != nil) {
			t.Errorf("%s: status %d, %v: %s", program, status, err, out)
		}
	}
}

// TestReports reads what a guest may have written.
func TestReports(t *testing.T) {
	f := &family{}
	f.guest.step("run it")
	f.guest.do(unix.SYS_GETPID)
	for _, tt := range []struct {
		report []int32
		ok     bool
	}{{[]int32{1, 0, 2}, true}, {[]int32{1, 1, 2}, false}, {[]int32{1, -1, 2}, false}, {[]int32{0, 0, 2}, false}, {[]int32{9, 9, 9}, false}} {
		r, w, err := os.Pipe()
		must(t, err)
		must(t, binary.Write(w, binary.LittleEndian, tt.report))
		var step *StepError
		err = f.readReport(int(r.Fd()), os.Getpid())
		if ok := errors.As(err, &step); ok != tt.ok || err == nil {
			t.Errorf("%v: %v", tt.report, err)
		}
		r.Close()
		w.Close()
	}
}
