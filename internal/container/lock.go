package container

import (
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"proot-distro/internal/flock"
)

// LockMode is Shared or Exclusive.
type LockMode int

// Lock modes, as of flock(2).
const (
	// Shared is for those who use a container and leave it in place: login,
	// run, backup.
	Shared LockMode = iota
	// Exclusive is for those who make, replace or delete one.
	Exclusive
)

// BusyError says that another process holds the lock of a container.
type BusyError struct {
	Name string
	flock.Holder
	Mode LockMode // what was wanted
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("container %q is in use by %s", e.Name, e.Holder)
}

func (t *state) lockName(name string) string { return path.Join(t.locks(), name+".lock") }

// lock takes the lock of a name without waiting, or fails with a [BusyError]. Closing
// every copy of the file releases it.
func (t *state) lock(name string, mode LockMode, command string) (*os.File, error) {
	f, err := t.openLock(name)
	if err != nil {
		return nil, t.failed("lock", name, err)
	}
	how := unix.LOCK_SH
	if mode == Exclusive {
		how = unix.LOCK_EX
	}
	held, err := flock.Try(f, how)
	if err != nil {
		f.Close()
		return nil, t.failed("lock", name, err)
	}
	if !held {
		busy := &BusyError{Name: name, Holder: flock.Find(f), Mode: mode}
		f.Close()
		return nil, busy
	}
	flock.Sign(f, command)
	return f, nil
}

func (t *state) openLock(name string) (*os.File, error) {
	if err := t.MkdirAll(t.locks(), 0o755); err != nil {
		return nil, err
	}
	dir, base, err := t.Parent(t.lockName(name))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.OpenFile(base, os.O_RDWR|os.O_CREATE, 0o600)
}
