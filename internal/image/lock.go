package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ErrBusy means that another process holds a lock that excludes this one.
var ErrBusy = errors.New("the image cache is in use by another command")

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
	nothing := func() error { return nil }
	readOnly := func(err error) bool {
		return mode == Shared && (errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS))
	}
	root, err := c.open(true)
	if readOnly(err) {
		return nothing, nil
	} else if err != nil {
		return nil, err
	}
	dir, err := root.OpenDir("/")
	if err != nil {
		return nil, fmt.Errorf("lock image cache: %w", err)
	}
	defer dir.Close()
	f, err := dir.OpenFile(lockName, os.O_RDONLY|os.O_CREATE, 0o600)
	if readOnly(err) {
		return nothing, nil
	} else if err != nil {
		return nil, fmt.Errorf("lock image cache: %w", err)
	}
	if err := flock(f, int(mode)|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrBusy
		}
		return nil, fmt.Errorf("lock image cache: %w", err)
	}
	return f.Close, nil
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}
