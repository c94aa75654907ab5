package rootfs

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Open opens a regular file for reading; see [Dir.OpenFile].
func (d *Dir) Open(name string) (*os.File, error) { return d.OpenFile(name, os.O_RDONLY, 0) }

// OpenFile opens a regular file, created with permissions perm before umask if
// flag has O_CREATE. Anything but a regular file is refused with [ErrUnsafe], and
// opening never blocks.
func (d *Dir) OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	if err := d.check("open", name); err != nil {
		return nil, err
	}
	return d.openFile(name, flag, perm)
}

// Create creates a file for writing, with permissions perm before umask. An
// existing one is an error.
func (d *Dir) Create(name string, perm fs.FileMode) (*os.File, error) {
	if err := d.check("create", name); err != nil {
		return nil, err
	}
	// What O_EXCL creates is new and regular, which saves the checks.
	fd, err := openat(d.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, UnixMode(perm))
	if err != nil {
		return nil, d.wrap("create", name, err)
	}
	return os.NewFile(uintptr(fd), d.base+d.path(name)), nil
}

// WriteFile puts a file with exactly these data and permissions, whatever the
// umask, in the place of name, whatever stands there but a directory. Readers find either the
// old file or the new one, also after a kill. Nothing is synced: a power failure may spoil both.
func (d *Dir) WriteFile(name string, data []byte, perm fs.FileMode) (err error) {
	if err := d.check("write", name); err != nil {
		return err
	}
	temp := ".pd-" + rand.Text()
	f, err := d.Create(temp, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = unix.Unlinkat(d.fd, temp, 0)
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(perm)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	var pe *fs.PathError
	if errors.As(err, &pe) { // names the temporary file
		err = pe.Err
	}
	if err == nil {
		err = unix.Renameat(d.fd, temp, d.fd, name)
	}
	return d.wrap("write", name, err)
}

// openFile is OpenFile that takes "." too, for the sake of its error.
func (d *Dir) openFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	fd, err := openSafe(d.fd, name, flag, UnixMode(perm), unix.S_IFREG)
	if err != nil {
		return nil, d.wrap("open", name, err)
	}
	return os.NewFile(uintptr(fd), d.base+d.path(name)), nil
}

// openSafe opens an entry that must be of one of these types (S_IFMT). It does
// not follow a link or wait for a FIFO's other end.
func openSafe(dir int, name string, flag int, mode uint32, types ...uint32) (int, error) {
	fd, err := openat(dir, name, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, mode)
	switch err {
	case nil:
	case unix.ELOOP:
		return -1, errLink
	case unix.ENXIO: // a socket, or a FIFO without a reader
		return -1, fmt.Errorf("%w: not a regular file", ErrUnsafe)
	case unix.EISDIR:
		return -1, fmt.Errorf("%w: %w", ErrUnsafe, unix.EISDIR)
	default:
		return -1, err
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if typ := uint32(st.Mode) & unix.S_IFMT; err == nil && !slices.Contains(types, typ) {
		err = fmt.Errorf("%w: not a regular file", ErrUnsafe)
		if typ == unix.S_IFDIR {
			err = fmt.Errorf("%w: %w", ErrUnsafe, unix.EISDIR)
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
