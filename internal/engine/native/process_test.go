package native

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
	"proot-distro/internal/engine/enginetest"
)

// endings are commands and the statuses that both Run and Exec give for them.
var endings = []struct {
	script string
	want   int
}{
	{"true", 0},
	{"exit 7", 7},
	{"exit 200", 200},
	{"kill -9 $$", 137},
	{"kill -TERM $$", 143},
	{"kill -INT $$", 130},
	{"(exit 5); exit 0", 0},
	{"sleep 60 & exit 3", 3},
	{"nosuchprogram", 127},
}

func TestStatus(t *testing.T) {
	root := newRootfs(t)
	for _, tt := range endings {
		t.Run(tt.script, func(t *testing.T) {
			if out, status := runSpec(t, script(root, tt.script)); status != tt.want {
				t.Errorf("Run: status %d, want %d: %s", status, tt.want, out)
			}
			cmd := execCommand(t, execRequest{Spec: script(root, tt.script)})
			out, _ := cmd.CombinedOutput()
			if status := cmd.ProcessState.ExitCode(); status != tt.want {
				t.Errorf("Exec: status %d, want %d: %s", status, tt.want, out)
			}
		})
	}
}

func TestCannotStart(t *testing.T) {
	root := newRootfs(t)
	must(t, os.WriteFile(filepath.Join(root, "file"), nil, 0o644))
	tests := []struct {
		name   string
		change func(*engine.Spec)
		want   string
	}{
		{"program", func(s *engine.Spec) { s.Argv = []string{"/nowhere"} }, `cannot run "/nowhere": it does not exist`},
		{"not executable", func(s *engine.Spec) { s.Argv = []string{"/file"} }, `cannot run "/file": permission denied`},
		{"work directory", func(s *engine.Spec) { s.WorkDir = "/nowhere" }, "cannot enter the work directory /nowhere: no such file or directory"},
		{"NUL", func(s *engine.Spec) { s.Argv = []string{"/bin/sh", "a\x00b"} }, "NUL"},
		{"bind on a file", func(s *engine.Spec) { s.Binds = []engine.Bind{{Source: "/etc", Target: "/file/x"}} }, "cannot bind /etc at /file/x: not a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := script(root, "true")
			tt.change(&s)
			p, err := newEngine(t).Prepare(s)
			must(t, err)
			if _, err := p.Run(context.Background(), engine.Stdio{}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestUnsupported(t *testing.T) {
	s := script(newRootfs(t), "true")
	s.User.Real = true
	var cannot *engine.Unsupported
	if _, err := newEngine(t).Prepare(s); !errors.As(err, &cannot) {
		t.Errorf("real identity: error %v", err)
	}
	s = script(newRootfs(t), "true")
	s.Binds = []engine.Bind{{Source: "/no/such/thing", Target: "/x"}}
	if _, err := newEngine(t).Prepare(s); err == nil || !strings.Contains(err.Error(), "/no/such/thing: it does not exist") {
		t.Errorf("missing source: error %v", err)
	}
}

func TestStreams(t *testing.T) {
	p, err := newEngine(t).Prepare(script(newRootfs(t), "cat; echo wrong >&2; readlink /proc/self/fd/0 | { read x; }"))
	must(t, err)
	var out, wrong bytes.Buffer
	long := strings.Repeat("0123456789abcdef", 1<<16)
	status, err := p.Run(context.Background(), engine.Stdio{In: strings.NewReader(long), Out: &out, Err: &wrong})
	if err != nil || status != 0 || out.String() != long || wrong.String() != "wrong\n" {
		t.Errorf("status %d, error %v, %d bytes, %q", status, err, out.Len(), wrong.String())
	}
}

func TestCancel(t *testing.T) {
	p, err := newEngine(t).Prepare(script(newRootfs(t), "trap : TERM INT; sleep 60 & echo ready; sleep 60"))
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	start := time.Now()
	_, err = p.Run(ctx, engine.Stdio{Out: &enginetest.Trigger{Text: "ready", Fire: cancel}})
	if !errors.Is(err, context.Canceled) || time.Since(start) > 4*time.Second {
		t.Errorf("error %v after %v", err, time.Since(start))
	}
}

// started starts a session and waits until its guest has said "ready".
func started(t *testing.T, r execRequest) *exec.Cmd {
	t.Helper()
	cmd := execCommand(t, r)
	ready := make(chan struct{})
	out := &enginetest.Trigger{Text: "ready", Fire: func() { close(ready) }}
	cmd.Stdout, cmd.Stderr = out, out
	must(t, cmd.Start())
	select {
	case <-ready:
	case <-time.After(10 * time.Second):
		t.Fatalf("the guest is not ready: %s", out.String())
	}
	return cmd
}

func TestForwardedSignals(t *testing.T) {
	for _, s := range []syscall.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2} {
		text := fmt.Sprintf("trap 'exit 40' %d; echo ready; while :; do sleep 0.05; done", int(s))
		cmd := started(t, execRequest{Spec: script(newRootfs(t), text)})
		must(t, cmd.Process.Signal(s))
		_ = cmd.Wait()
		if status := cmd.ProcessState.ExitCode(); status != 40 {
			t.Errorf("%v: status %d, want 40", s, status)
		}
	}
}

// TestParentKilled kills the outer process by the signal that it cannot handle.
func TestParentKilled(t *testing.T) {
	kept := filepath.Join(t.TempDir(), "kept")
	cmd := started(t, execRequest{Spec: script(newRootfs(t), "sleep 61 & echo ready; sleep 62"), Keep: kept})
	guests, err := Guests(cmd.Process.Pid)
	must(t, err)
	if len(guests) < 2 {
		t.Errorf("guests %v, want the shell and two sleeps", guests)
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		alive := 0
		for _, pid := range guests {
			if unix.Kill(pid, 0) == nil {
				alive++
			}
		}
		if alive == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %v are still alive", alive, guests)
		}
	}
}

func TestTerminal(t *testing.T) {
	tests := []struct {
		name, script string
		typed        byte
		want         int
	}{
		{"interrupt", "echo ready; exec sleep 60", 3, 130},
		{"quit", "ulimit -c 0; echo ready; exec sleep 60", 28, 131},
		{"own handler", "trap 'exit 42' INT; echo ready; sleep 60", 3, 42},
		{"console", "[ $(readlink -f /dev/console) = /dev/console ] && [ -c /dev/console ] && echo ready; exec sleep 60", 3, 130},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd := execCommand(t, execRequest{Spec: script(newRootfs(t), tt.script)})
			master := enginetest.StartOnTerminal(t, cmd)
			time.Sleep(20 * time.Millisecond) // until exec has reset the shell's handlers
			_, err := master.Write([]byte{tt.typed})
			must(t, err)
			_ = cmd.Wait()
			if status := cmd.ProcessState.ExitCode(); status != tt.want {
				t.Errorf("status %d, want %d", status, tt.want)
			}
		})
	}
}

// With owners, the guest's user has its number and its groups, and none of root's powers.
func TestRealUser(t *testing.T) {
	root := newRootfs(t)
	s := script(root, `echo $(id -u) $(id -g) $(id -G); touch /tmp/mine && stat -c '%u:%g' /tmp/mine; touch /root-only || echo denied`)
	s.AllIDs, s.User = true, engine.User{UID: 1000, GID: 100, Groups: []int{100, 27}}
	if os.Geteuid() != 0 {
		if _, err := newEngine(t).Prepare(s); err == nil {
			t.Error("prepared with a single ID")
		}
		return
	}
	must(t, os.Chmod(root, 0o755))
	must(t, os.Chmod(filepath.Join(root, "tmp"), 0o1777))
	for dir := filepath.Dir(root); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o711))
	}
	out, status := runSpec(t, s)
	if status != 0 || !strings.HasPrefix(out, "1000 100 100 27\n1000:100\n") || !strings.HasSuffix(out, "denied\n") {
		t.Errorf("status %d, output:\n%s", status, out)
	}
}
