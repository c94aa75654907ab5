package proot

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
	"proot-distro/internal/engine/enginetest"
	"proot-distro/internal/platform"
)

// endings are commands and the statuses that both Run and Exec give for them.
var endings = []struct {
	name, script string
	shell        string
	want         int
}{
	{"success", "true", "", 0},
	{"status", "exit 7", "", 7},
	{"status, supervised", "exit 7", "/bin/sh", 7},
	{"large status, supervised", "exit 200", "/bin/sh", 200},
	{"kill, supervised", "kill -9 $$", "/bin/sh", 137},
	{"term, supervised", "kill -TERM $$", "/bin/sh", 143},
	{"interrupt, supervised", "kill -INT $$", "/bin/sh", 130},
	{"later background failure, supervised", "(sleep 0.2; exit 5) & exit 3", "/bin/sh", 3},
	{"earlier failure, supervised", "(exit 5); exit 0", "/bin/sh", 0},
}

func TestRunStatus(t *testing.T) {
	e := newEngine(t, nil)
	root := newRootfs(t)
	for _, tt := range endings {
		t.Run(tt.name, func(t *testing.T) {
			s := newSpec(root, "/bin/sh", "-c", tt.script)
			s.Shell = tt.shell
			if _, status := runSpec(t, e, s); status != tt.want {
				t.Errorf("status %d, want %d", status, tt.want)
			}
		})
	}
}

func TestExecStatus(t *testing.T) {
	root := newRootfs(t)
	for _, tt := range endings {
		t.Run(tt.name, func(t *testing.T) {
			s := newSpec(root, "/bin/sh", "-c", tt.script)
			s.Shell = tt.shell
			cmd := execCommand(t, execRequest{Spec: s})
			out, err := cmd.CombinedOutput()
			if status := cmd.ProcessState.ExitCode(); status != tt.want {
				t.Errorf("status %d (%v), want %d: %s", status, err, tt.want, out)
			}
		})
	}
}

func TestSupervisedWords(t *testing.T) {
	e := newEngine(t, nil)
	root := newRootfs(t)
	s := newSpec(root, "/bin/busybox", "printf", "[%s]", "", "a b", "$HOME", "it's", "-n", "A=b")
	s.Shell = "/bin/sh"
	if out, status := runSpec(t, e, s); status != 0 || out != "[][a b][$HOME][it's][-n][A=b]" {
		t.Errorf("%q, status %d", out, status)
	}
	// A word that is the shell's own is looked up as a program all the same.
	s.Argv = []string{"exit", "3"}
	if out, status := runSpec(t, e, s); status != 127 || !strings.Contains(out, "not found") {
		t.Errorf("exit 3: %q, status %d", out, status)
	}
}

// TestGuestSeesItsOwn runs the host's own ls and stat, which use statx, on a
// guest's files.
func TestGuestSeesItsOwn(t *testing.T) {
	e := newEngine(t, nil)
	root := newRootfs(t)
	s := newSpec(root, "/usr/bin/stat", "-c", "%i", "/etc/passwd", "/")
	for _, dir := range []string{"/usr", "/lib", "/lib64"} {
		if _, err := os.Stat(dir); err == nil {
			s.Binds = append(s.Binds, engine.Bind{Source: dir, Target: dir})
		}
	}
	out, status := runSpec(t, e, s)
	if want := inode(t, filepath.Join(root, "etc/passwd")) + "\n" + inode(t, root) + "\n"; out != want || status != 0 {
		t.Errorf("stat: %q, status %d; want the guest's inodes %q", out, status, want)
	}
	s.Argv = []string{"/usr/bin/ls", "-l", "/"}
	out, status = runSpec(t, e, s)
	if status != 0 || !strings.Contains(out, "only-in-guest") {
		t.Errorf("ls -l /: status %d\n%s", status, out)
	}
	s.Argv = []string{"/usr/bin/mv", "/only-in-guest", "/moved"}
	if out, status = runSpec(t, e, s); status != 0 || inode(t, filepath.Join(root, "moved")) == "" {
		t.Errorf("mv: status %d\n%s", status, out)
	}
}

func inode(t *testing.T, path string) string {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	return strconv.FormatUint(st.Ino, 10)
}

// TestNothingEscapes makes every probed call in a guest, in this machine's
// architecture and under an emulator.
func TestNothingEscapes(t *testing.T) {
	e := newEngine(t, nil)
	for _, arch := range []platform.Arch{platform.Binary(), platform.I686, platform.AArch64, platform.ARM, platform.RISCV64} {
		t.Run(string(arch), func(t *testing.T) {
			root := newRootfs(t)
			must(t, os.WriteFile(filepath.Join(root, guestProgram), guestELF(arch), 0o755))
			must(t, os.WriteFile(filepath.Join(root, guestMarker), nil, 0o644))
			s := newSpec(root, guestProgram)
			s.Arch = arch
			var err error
			if s.Emulator, err = engine.FindEmulator(hostAt("", os.Getenv), arch, ""); err != nil {
				t.Fatal(err)
			}
			out, status := runSpec(t, e, s)
			results := guestResults(arch, []byte(out))
			if status != 0 || results == nil {
				t.Fatalf("status %d, results %q", status, out)
			}
			for i, name := range probedCalls {
				if errno := unix.Errno(-results[i]); errno == unix.ENOENT {
					t.Errorf("%s: %v, so it went past proot", name, errno)
				}
			}
		})
	}
}

func TestEnvironmentAndIdentity(t *testing.T) {
	e := newEngine(t, map[string]string{"PROOT_NO_SECCOMP": "1", "HOME": "/elsewhere"})
	s := newSpec(newRootfs(t), "/bin/sh", "-c", "env; id -u; id -g; pwd; cat /mnt/data")
	data := filepath.Join(t.TempDir(), "data")
	must(t, os.WriteFile(data, []byte("bound\n"), 0o644))
	s.Env = append(s.Env, "GREETING=hello world")
	s.User = engine.User{UID: 1234, GID: 99}
	s.WorkDir = "/tmp"
	s.Binds = []engine.Bind{{Source: data, Target: "/mnt/data"}}
	out, _ := runSpec(t, e, s)
	var got []string
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "SHLVL=") && !strings.HasPrefix(line, "PWD=") {
			got = append(got, line)
		}
	}
	want := []string{"PROOT_NO_SECCOMP=1", "PATH=/bin", "GREETING=hello world", "1234", "99", "/tmp", "bound"}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("guest says %q, want %q", got, want)
	}
}

func TestExecKeepsOnlyWhatItShould(t *testing.T) {
	for _, shell := range []string{"", "/bin/sh"} {
		t.Run("shell "+shell, func(t *testing.T) {
			dir := t.TempDir()
			r := execRequest{
				Spec:  newSpec(newRootfs(t), "/bin/ls", "-l", "/proc/self/fd"),
				Keep:  filepath.Join(dir, "kept"),
				Extra: "/etc",
			}
			r.Spec.Shell = shell
			out, err := execCommand(t, r).CombinedOutput()
			if err != nil || !strings.Contains(string(out), r.Keep) {
				t.Errorf("the kept file is not open in the guest (%v):\n%s", err, out)
			}
			if strings.Contains(string(out), " /etc\n") {
				t.Errorf("a stray descriptor is open in the guest:\n%s", out)
			}
			if strings.Contains(string(out), "pipe:") && strings.Count(string(out), "pipe:") > 2 {
				t.Errorf("the status pipe is open in the guest:\n%s", out)
			}
		})
	}
}

func TestCancel(t *testing.T) {
	for _, shell := range []string{"", "/bin/sh"} {
		e := newEngine(t, nil)
		s := newSpec(newRootfs(t), "/bin/sh", "-c", "trap : TERM INT; sleep 60 & sleep 60 & echo ready; wait; sleep 60")
		s.Shell = shell
		p, err := e.Prepare(s)
		must(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		ready := &enginetest.Trigger{Text: "ready", Fire: cancel}
		start := time.Now()
		_, err = p.Run(ctx, engine.Stdio{Out: ready})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(start); took > 4*time.Second {
			t.Errorf("took %v to end", took)
		}
	}
}

func TestTracees(t *testing.T) {
	cmd := execCommand(t, execRequest{Spec: newSpec(newRootfs(t), "/bin/sh", "-c", "sleep 60 & sleep 60; true")})
	must(t, cmd.Start())
	var pids []int
	for deadline := time.Now().Add(10 * time.Second); len(pids) < 3 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		var err error
		pids, err = tracees(cmd.Process.Pid)
		must(t, err)
	}
	if len(pids) != 3 || !slices.IsSorted(pids) {
		t.Errorf("tracees %v, want three in order", pids)
	}
	for _, pid := range pids {
		must(t, unix.Kill(pid, unix.SIGKILL))
	}
	_ = cmd.Wait() // proot ends by itself; how does not matter here
	if pids, err := tracees(cmd.Process.Pid); err != nil || len(pids) != 0 {
		t.Errorf("tracees of an ended proot: %v, %v", pids, err)
	}
}

func TestTerminalInterrupt(t *testing.T) {
	tests := []struct {
		name, script, shell string
		want                int
	}{
		{"default", "echo ready; exec sleep 60", "/bin/sh", 130},
		{"own handler", "trap 'exit 42' INT; echo ready; sleep 60", "/bin/sh", 42},
		{"own handler, unsupervised", "trap 'exit 42' INT; echo ready; sleep 60", "", 42},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSpec(newRootfs(t), "/bin/sh", "-c", tt.script)
			s.Shell = tt.shell
			cmd := execCommand(t, execRequest{Spec: s})
			master := enginetest.StartOnTerminal(t, cmd)
			// As a person does: again, if it hit nothing. proot 5.1.0 may lose a signal
			// that arrives while the guest is in execve(2).
			done := make(chan error)
			go func() { done <- cmd.Wait() }()
			for running := true; running; {
				_, err := master.Write([]byte{3})
				must(t, err)
				select {
				case <-done:
					running = false
				case <-time.After(300 * time.Millisecond):
				}
			}
			if status := cmd.ProcessState.ExitCode(); status != tt.want {
				t.Errorf("status %d, want %d", status, tt.want)
			}
		})
	}
}

func TestChildrenOf(t *testing.T) {
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Wait() }() // killed
	defer func() { _ = child.Process.Kill() }()
	if got := childrenOf(os.Getpid()); !slices.Contains(got, child.Process.Pid) {
		t.Errorf("%v lacks %d", got, child.Process.Pid)
	}
}
