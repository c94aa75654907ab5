package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"proot-distro/internal/flock"
	"proot-distro/internal/rootfs"
)

// ErrBusy means that another process holds a lock that excludes this one. It comes as a
// [BusyError].
var ErrBusy = errors.New("the image cache is in use by another command")

// BusyError is [ErrBusy] with the one who holds the lock, or one of them.
type BusyError struct{ flock.Holder }

func (e *BusyError) Error() string        { return fmt.Sprintf("the image cache is in use by %s", e.Holder) }
func (e *BusyError) Is(target error) bool { return target == ErrBusy }

// LockMode says what else may use the cache at the same time.
type LockMode int

// Modes of [Cache.Lock].
const (
	Shared    LockMode = unix.LOCK_SH // pull, build, push: others may do so too
	Exclusive LockMode = unix.LOCK_EX // clear: nobody else
)

const lockName = ".lock"

// Lock takes the lock over the whole cache, or fails with [ErrBusy] at once. A shared
// lock on a cache that cannot be written needs no file: nobody else can clear it.
func (c *Cache) Lock(mode LockMode) (release func() error, err error) {
	root, err := c.open(true)
	var file *os.File
	if err == nil {
		file, err = lockIn(root, mode)
	}
	if mode == Shared && (errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS)) {
		return func() error { return nil }, nil
	}
	var busy *BusyError
	if errors.As(err, &busy) {
		return nil, err
	} else if err != nil {
		return nil, fmt.Errorf("lock image cache: %w", err)
	}
	flock.Sign(file, c.Command)
	return file.Close, nil
}

// lockIn opens and locks the file, anew when it was cleared away in between.
func lockIn(root *rootfs.FS, mode LockMode) (*os.File, error) {
	dir, err := root.OpenDir("/")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	for {
		file, err := dir.OpenFile(lockName, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		held, err := flock.Try(file, int(mode))
		if err == nil && !held {
			err = &BusyError{flock.Find(file)}
		}
		if err == nil && isNamed(file, dir, lockName) {
			return file, nil
		}
		file.Close()
		if err != nil {
			return nil, err
		}
	}
}

// isNamed reports whether an open file is what a name stands for.
func isNamed(file *os.File, dir *rootfs.Dir, name string) bool {
	named, err := dir.Lstat(name)
	if err != nil {
		return false
	}
	var st unix.Stat_t
	err = unix.Fstat(int(file.Fd()), &st)
	return err == nil && uint64(st.Ino) == named.Ino && uint64(st.Dev) == named.Dev
}
