package native

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
	"proot-distro/internal/guest"
)

// running starts a session that sleeps until the test has ended.
func running(t *testing.T, change func(*engine.Spec)) (pid int, root string) {
	t.Helper()
	root = newRootfs(t)
	s := script(root, "touch /tmp/seen; echo ready; exec sleep 60")
	s.Hostname, s.Tmpfs = "session", []engine.Tmpfs{{Target: "/tmp", Mode: 0o1777}}
	if change != nil {
		change(&s)
	}
	cmd := started(t, execRequest{Spec: s})
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid, root
}

func joined(t *testing.T, pid int, s engine.Spec) (string, int, error) {
	t.Helper()
	p, err := Join(pid, s)
	must(t, err)
	var out bytes.Buffer
	status, err := p.Run(t.Context(), engine.Stdio{Out: &out, Err: &out})
	return out.String(), status, err
}

func TestJoin(t *testing.T) {
	pid, root := running(t, nil)
	const powers = "CapPrm:\t00000000a80425fb\nSeccomp:\t2\n"
	tests := []struct {
		name, script string
		user         engine.User
		want         string
		status       int
	}{
		{name: "mounts and names", script: "ls /tmp; hostname; exit 5", want: "seen\nsession\n", status: 5},
		{name: "processes", script: "cat /proc/2/cmdline | busybox tr '\\0' ' '", want: "sleep 60 "},
		{name: "user", script: "id -u; id -g", user: engine.User{UID: 1000, GID: 100}, want: "1000\n100\n"},
		{name: "powers", script: "busybox grep -E '^(CapPrm|Seccomp):' /proc/self/status", want: powers},
		{name: "descriptors", script: "echo /proc/self/fd/*", want: "/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 /proc/self/fd/3\n"}, // 3 lists them
		{name: "signal", script: "kill -KILL $$", status: 137},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := script(root, "busybox() { /bin/busybox \"$@\"; }; "+tt.script)
			s.User = tt.user
			out, status, err := joined(t, pid, s)
			if err != nil || out != tt.want || status != tt.status {
				t.Errorf("status %d, %v, output:\n%s\nwant %d:\n%s", status, err, out, tt.status, tt.want)
			}
		})
	}
}

// TestJoinFindsPrograms looks in PATH, as the guest.
func TestJoinFindsPrograms(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/bound", []byte("#!/bin/sh\necho bound\n"), 0o755))
	pid, root := running(t, func(s *engine.Spec) { s.Binds = []engine.Bind{{Source: dir, Target: "/opt/bin"}} })
	s := newSpec(root, "bound")
	s.Env = []string{"PATH=/nowhere:/opt/bin:/bin"}
	if out, status, err := joined(t, pid, s); out != "bound\n" || status != 0 || err != nil {
		t.Errorf("status %d, %v: %s", status, err, out)
	}
	for name, want := range map[string]int{"nosuch": guest.StatusNotFound, "/etc/passwd": guest.StatusCannotRun} {
		s.Argv = []string{name}
		_, _, err := joined(t, pid, s)
		var program *guest.ProgramError
		if !errors.As(err, &program) || program.Status != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestJoinUnseen has a guest look at a process that comes to it, while that is still this program's
// copy with its memory and files.
func TestJoinUnseen(t *testing.T) {
	for name, user := range map[string]engine.User{"root": {}, "other": {UID: 1000, GID: 100}} {
		t.Run(name, func(t *testing.T) {
			pid, root := running(t, func(s *engine.Spec) {
				s.Argv = []string{"/bin/sh", "-c", `echo ready
				while :; do for p in /proc/[0-9]*; do
					case $(readlink $p/exe) in ""|/bin/*|/memfd:launcher*) ;; *) ls -l $p/exe $p/fd/ >/seen;; esac
				done; done`}
			})
			s := newSpec(root, "/bin/true")
			s.User = user
			p, err := Join(pid, s)
			must(t, err)
			launcher, err := openLauncher(t.TempDir())
			must(t, err)
			defer unix.Close(launcher)
			f, err := p.(*Process).family(descriptors{stdio: [3]int{-1, -1, -1}, launcher: launcher})
			must(t, err)
			slow(&f.setup)
			slow(&f.guest)
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			supervisor, err := f.start()
			must(t, err)
			if status, err := wait(supervisor); err != nil || status.ExitStatus() != 0 {
				t.Errorf("status %d, %v", status.ExitStatus(), err)
			}
			if seen, err := os.ReadFile(filepath.Join(root, "seen")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a guest sees what it should not, %v:\n%s", err, seen)
			}
		})
	}
}

// slow has a plan pause before each of its calls.
func slow(p *plan) {
	var calls []*call
	for _, c := range p.calls {
		pause := &call{nr: unix.SYS_NANOSLEEP, step: c.step, tolerated: true}
		pause.args[0] = uintptr(unsafe.Pointer(&longEnough))
		calls = append(calls, pause, c)
		c.skip *= 2
	}
	p.calls = calls
}

var longEnough = unix.Timespec{Nsec: 5e6}

// TestJoinedEndWithSession kills a session beneath the command that joined it.
func TestJoinedEndWithSession(t *testing.T) {
	root := newRootfs(t)
	first := started(t, execRequest{Spec: script(root, "echo ready; exec sleep 60")})
	second := execCommand(t, execRequest{Spec: newSpec(root, "/bin/sleep", "60"), Join: first.Process.Pid})
	must(t, second.Start())
	ended := make(chan error, 1)
	go func() { ended <- second.Wait() }()
	waitForGuests(t, second)
	must(t, first.Process.Kill())
	_ = first.Wait()
	<-ended
	if status := second.ProcessState.ExitCode(); status != 137 {
		t.Errorf("status %d, want 137", status)
	}
}

func waitForGuests(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	for range 1000 {
		guests, err := Guests(cmd.Process.Pid)
		must(t, err)
		for _, pid := range guests {
			if text, _ := os.ReadFile(procPath(pid, "cmdline")); strings.HasPrefix(string(text), "/bin/sleep") {
				return
			}
		}
	}
	t.Fatal("the guest does not start")
}

func TestNotJoinable(t *testing.T) {
	pid, root := running(t, nil)
	other := execCommand(t, execRequest{Spec: newSpec(root, "/bin/sleep", "60"), Join: pid})
	must(t, other.Start())
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	waitForGuests(t, other)
	for name, session := range map[string]int{
		"a command that joined": other.Process.Pid, "this process": os.Getpid(), "no process": 1 << 30,
	} {
		if _, err := Join(session, newSpec(root, "/bin/sh")); !errors.Is(err, ErrNotJoinable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
