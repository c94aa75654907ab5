// Package enginetest is what the tests of engines share: a guest of one static busybox,
// and the ways to run something in it and to listen to it.
package enginetest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
	"proot-distro/internal/platform"
)

// applets are the programs of the guest.
const applets = "sh ls stat cat sleep kill env id uname true chown mknod mkfifo mount umount touch hostname readlink nohup mv rm cp mkdir wc grep"

// Rootfs makes the guest's files. No other tree has a file /only-in-guest.
func Rootfs(t testing.TB) string {
	t.Helper()
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("these tests need Debian's package busybox-static: %v", err)
	}
	root := t.TempDir()
	for _, dir := range []string{"bin", "etc", "tmp"} {
		Must(t, os.Mkdir(filepath.Join(root, dir), 0o755))
	}
	Must(t, os.WriteFile(filepath.Join(root, "bin/busybox"), program, 0o755))
	for applet := range strings.FieldsSeq(applets) {
		Must(t, os.Symlink("busybox", filepath.Join(root, "bin", applet)))
	}
	Must(t, os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0:guest:/:/bin/sh\n"), 0o644))
	Must(t, os.WriteFile(filepath.Join(root, "only-in-guest"), nil, 0o644))
	return root
}

// Spec runs a command as root.
func Spec(root string, argv ...string) engine.Spec {
	return engine.Spec{
		Container: "box", Rootfs: root, Argv: argv, WorkDir: "/", Env: []string{"PATH=/bin"},
		Arch: platform.Binary(), HostArch: platform.Binary(),
	}
}

// Run runs a Spec and returns its output, errors included, and its status.
func Run(t testing.TB, e engine.Engine, s engine.Spec) (string, int) {
	t.Helper()
	p, err := e.Prepare(s)
	Must(t, err)
	var out bytes.Buffer
	status, err := p.Run(context.Background(), engine.Stdio{Out: &out, Err: &out})
	Must(t, err)
	return out.String(), status
}

// Must ends the test at an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A Trigger calls Fire once Text was written to it.
type Trigger struct {
	Text string
	Fire func()

	seen  bytes.Buffer
	fired sync.Once
}

func (w *Trigger) Write(p []byte) (int, error) {
	w.seen.Write(p)
	if strings.Contains(w.seen.String(), w.Text) {
		w.fired.Do(w.Fire)
	}
	return len(p), nil
}

// String is what was written.
func (w *Trigger) String() string { return w.seen.String() }

// terminal opens a new one; a person sits at the master.
func terminal(t testing.TB) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	Must(t, err)
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	Must(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	Must(t, err)
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	Must(t, err)
	return master, slave
}

// StartOnTerminal starts cmd as the first process of a new terminal, and returns once it has written "ready".
func StartOnTerminal(t testing.TB, cmd *exec.Cmd) (master *os.File) {
	t.Helper()
	master, slave := terminal(t)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	Must(t, cmd.Start())
	slave.Close()
	var seen bytes.Buffer
	for buf := make([]byte, 256); !strings.Contains(seen.String(), "ready"); {
		n, err := master.Read(buf)
		if err != nil {
			t.Fatalf("terminal: %v after %q", err, seen.String())
		}
		seen.Write(buf[:n])
	}
	return master
}
