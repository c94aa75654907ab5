package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proot-distro/internal/flock"
	"proot-distro/internal/rootfs"
)

// busy opens a container that must be in use.
func busy(t *testing.T, s *Store, mode LockMode) *BusyError {
	t.Helper()
	c, err := s.Open("debian", mode, "test")
	if err == nil {
		c.Close()
	}
	var b *BusyError
	if !errors.As(err, &b) {
		t.Fatalf("Open: %v, not a BusyError", err)
	}
	return b
}

func TestLocksAcrossProcesses(t *testing.T) {
	s, dirs := newStore(t)
	install(t, s, "debian", "x")

	first := start(t, dirs, "login", "debian")
	second := start(t, dirs, "login", "debian")
	if got := content(t, s, "debian"); got != "x" {
		t.Errorf("shared beside shared: %s", got)
	}
	// The lock file names this process now, which holds nothing any more.
	b := busy(t, s, Exclusive)
	if b.PID != first.pid && b.PID != second.pid || b.Gone {
		t.Errorf("the holders are %d and %d: %+v", first.pid, second.pid, b)
	}
	first.release()
	if b := busy(t, s, Exclusive); b.PID != second.pid {
		t.Errorf("the holder is %d: %+v", second.pid, b)
	}
	second.release()

	owner := start(t, dirs, "remove", "debian")
	for _, mode := range []LockMode{Shared, Exclusive} {
		b := busy(t, s, mode)
		if diff := cmp.Diff(&BusyError{Name: "debian", Holder: flock.Holder{PID: owner.pid, Command: "remove"}, Mode: mode}, b); diff != "" {
			t.Error(diff)
		}
		if want := fmt.Sprintf(`container "debian" is in use by remove (PID %d)`, owner.pid); b.Error() != want {
			t.Errorf("it says: %s", b)
		}
	}
	owner.kill()
	if got := content(t, s, "debian"); got != "x" {
		t.Errorf("after the owner's death: %s", got)
	}
}

func TestBusyWhileInstalling(t *testing.T) {
	s, dirs := newStore(t)
	owner := start(t, dirs, "install", "debian")
	if b := busy(t, s, Shared); b.PID != owner.pid || b.Command != "install" {
		t.Errorf("Open: %+v", b)
	}
	var b *BusyError
	if _, err := s.Create("debian", "install"); !errors.As(err, &b) || b.PID != owner.pid {
		t.Errorf("Create: %v", err)
	}
	if err := s.Sweep(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dirs.Staging(), "debian/rootfs")); err != nil {
		t.Errorf("Sweep took what a living process is making: %v", err)
	}
	owner.kill()
	if err := s.Sweep(); err != nil {
		t.Error(err)
	}
	noStaging(t, dirs)
}

// The guest's background processes outlive the process that took the lock.
func TestOrphansKeepLockAndSession(t *testing.T) {
	s, dirs := newStore(t)
	install(t, s, "debian", "x")
	p := start(t, dirs, "orphan", "debian")
	registered := p.cmd.Process.Pid
	if err := p.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	b := busy(t, s, Exclusive)
	if !b.Gone || b.PID != registered || !strings.Contains(b.Error(), "background processes of login") {
		t.Errorf("%d left: %v", registered, b)
	}
	if got := sessions(t, s); len(got) != 1 || got[0].PID != registered {
		t.Errorf("Sessions: %+v", got)
	}
	p.release()
	if got := sessions(t, s); len(got) != 0 {
		t.Errorf("Sessions: %+v", got)
	}
	c, err := s.Open("debian", Exclusive, "remove")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestLockFileIsNotTrusted(t *testing.T) {
	s, dirs := newStore(t)
	install(t, s, "debian", "x")
	lock := filepath.Join(dirs.Locks(), "debian.lock")
	secret := filepath.Join(t.TempDir(), "secret")
	plant(t, filepath.Dir(secret), map[string]string{"secret": "keep me"})
	for name, make := range map[string]func() error{
		"FIFO":      func() error { return syscall.Mkfifo(lock, 0o600) },
		"link":      func() error { return os.Symlink(secret, lock) },
		"directory": func() error { return os.Mkdir(lock, 0o700) },
	} {
		if err := errors.Join(os.Remove(lock), make()); err != nil {
			t.Fatal(err)
		}
		for _, mode := range []LockMode{Shared, Exclusive} {
			if _, err := s.Open("debian", mode, "test"); !errors.Is(err, rootfs.ErrUnsafe) || !strings.Contains(err.Error(), lock) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if data, err := os.ReadFile(secret); err != nil || string(data) != "keep me" {
		t.Errorf("written through a link: %q, %v", data, err)
	}

	if err := errors.Join(os.Remove(lock), os.WriteFile(lock, nil, 0o600), os.Truncate(lock, 1<<40)); err != nil {
		t.Fatal(err)
	}
	c, err := s.Open("debian", Exclusive, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if data, err := os.ReadFile(lock); err != nil || string(data) != fmt.Sprintf("%d test", os.Getpid()) {
		t.Errorf("the lock file holds %.40q, %v", data, err)
	}
	if err := os.WriteFile(lock, []byte("12 \x1b[31mremove all\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b := busy(t, s, Shared); b.PID != os.Getpid() || strings.ContainsRune(b.Error(), '\x1b') {
		t.Errorf("BusyError: %+v", b)
	}
}

func TestBusyErrorSays(t *testing.T) {
	b := &BusyError{Name: "a", Holder: flock.Holder{PID: 7, Command: "login"}}
	if want := `container "a" is in use by login (PID 7)`; b.Error() != want {
		t.Errorf("it says %s", b)
	}
}
