package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is an open directory. Its names are single components, and no link is ever followed.
type Dir struct {
	fd     int
	shared bool   // fd is the tree's own
	name   string // from the tree's root, "usr/bin"; for errors
	base   string // what stands in front of it there; see [FS.base]
}

// Close releases the directory.
func (d *Dir) Close() error {
	if d.shared || d.fd < 0 {
		return nil
	}
	fd := d.fd
	d.fd = -1
	return d.wrap("close", "", unix.Close(fd))
}

// Fd gives the directory's descriptor, opened with O_PATH and valid until Close.
func (d *Dir) Fd() int { return d.fd }

// Path gives the directory's path in the tree, "/usr/bin", when it was opened.
func (d *Dir) Path() string { return d.path("") }

// own gives a Dir that the caller may keep.
func (d *Dir) own() (*Dir, error) {
	if !d.shared {
		return d, nil
	}
	fd, err := unix.FcntlInt(uintptr(d.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, d.wrap("open", "", err)
	}
	return &Dir{fd: fd, name: d.name, base: d.base}, nil
}

// OpenDir opens a directory in d.
func (d *Dir) OpenDir(name string) (*Dir, error) {
	if err := d.check("open", name); err != nil {
		return nil, err
	}
	fd, err := openat(d.fd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		if _, linkErr := readlinkat(d.fd, name); isLinkError(err) && linkErr == nil {
			err = errLink
		}
		return nil, d.wrap("open", name, err)
	}
	return &Dir{fd: fd, name: strings.TrimPrefix(d.path(name), "/"), base: d.base}, nil
}

// Lstat describes an entry.
func (d *Dir) Lstat(name string) (Info, error) {
	if err := d.check("lstat", name); err != nil {
		return Info{}, err
	}
	return d.stat("lstat", name)
}

// stat is Lstat that takes "." too.
func (d *Dir) stat(op, name string) (Info, error) {
	var st unix.Stat_t
	var err error
	if name == "." {
		err = unix.Fstat(d.fd, &st)
	} else {
		err = unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return Info{}, d.wrap(op, name, err)
	}
	return InfoOf(&st), nil
}

// Readlink gives a link's target.
func (d *Dir) Readlink(name string) (string, error) {
	if err := d.check("readlink", name); err != nil {
		return "", err
	}
	target, err := readlinkat(d.fd, name)
	return target, d.wrap("readlink", name, err)
}

// Symlink makes name a link to target, which may be any text.
func (d *Dir) Symlink(target, name string) error {
	if err := d.check("symlink", name); err != nil {
		return err
	}
	return d.wrap("symlink", name, unix.Symlinkat(target, d.fd, name))
}

// Link makes newname in to another name of name in d; a link is not followed.
func (d *Dir) Link(name string, to *Dir, newname string) error {
	if err := errors.Join(d.check("link", name), to.check("link", newname)); err != nil {
		return err
	}
	return to.wrap("link", newname, unix.Linkat(d.fd, name, to.fd, newname, 0))
}

// Mkdir creates a directory with permissions perm before umask.
func (d *Dir) Mkdir(name string, perm fs.FileMode) error {
	if err := d.check("mkdir", name); err != nil {
		return err
	}
	return d.wrap("mkdir", name, unix.Mkdirat(d.fd, name, UnixMode(perm)))
}

// Remove removes a file, a link or an empty directory.
func (d *Dir) Remove(name string) error {
	if err := d.check("remove", name); err != nil {
		return err
	}
	err := unix.Unlinkat(d.fd, name, 0)
	if err == unix.EISDIR {
		err = unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR)
	}
	return d.wrap("remove", name, err)
}

// Rename moves an entry, replacing what stands at newname as rename(2) does.
func (d *Dir) Rename(name string, to *Dir, newname string) error {
	if err := errors.Join(d.check("rename", name), to.check("rename", newname)); err != nil {
		return err
	}
	return d.wrap("rename", name, unix.Renameat(d.fd, name, to.fd, newname))
}

// Chmod sets an entry's mode, setuid, setgid and sticky bits included. A link is
// refused with [ErrUnsafe]. It works for entries that may not be opened, given
// /proc: fchmodat2(2) has a flag for this, but is newer than Android allows.
func (d *Dir) Chmod(name string, mode fs.FileMode) error {
	if err := d.check("chmod", name); err != nil {
		return err
	}
	return d.wrap("chmod", name, chmodat(d.fd, name, UnixMode(mode)))
}

func chmodat(dir int, name string, mode uint32) error {
	fd, err := openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return errLink
	}
	err = unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode)
	if err != unix.ENOENT && err != unix.ENOTDIR {
		return err
	}
	return chmodOpened(dir, name, mode) // no /proc
}

func chmodOpened(dir int, name string, mode uint32) error {
	fd, err := openSafe(dir, name, unix.O_RDONLY, 0, unix.S_IFREG, unix.S_IFDIR)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fchmod(fd, mode)
}

// Chown gives an entry, a link itself too, an owner and a group.
func (d *Dir) Chown(name string, uid, gid int) error {
	if err := d.check("chown", name); err != nil {
		return err
	}
	return d.wrap("chown", name, unix.Fchownat(d.fd, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW))
}

// Chtimes sets an entry's modification time to the nanosecond, a link's own too,
// and leaves its access time.
func (d *Dir) Chtimes(name string, mtime time.Time) error {
	if err := d.check("chtimes", name); err != nil {
		return err
	}
	m, err := unix.TimeToTimespec(mtime)
	if err == nil {
		ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, m}
		err = unix.UtimesNanoAt(d.fd, name, ts, unix.AT_SYMLINK_NOFOLLOW)
	}
	return d.wrap("chtimes", name, err)
}

// SetXattr sets an extended attribute of a regular file or a directory that may
// be opened for reading.
func (d *Dir) SetXattr(name, attr string, value []byte) error {
	if err := d.check("setxattr", name); err != nil {
		return err
	}
	fd, err := openSafe(d.fd, name, unix.O_RDONLY, 0, unix.S_IFREG, unix.S_IFDIR)
	if err != nil {
		return d.wrap("setxattr", name, err)
	}
	defer unix.Close(fd)
	return d.wrap("setxattr", name, unix.Fsetxattr(fd, attr, value, 0))
}

// SyncFS has everything written to disk that was written to the directory's file system, and
// waits for it (syncfs(2)).
func (d *Dir) SyncFS() error {
	fd, err := openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return d.wrap("open", "", err)
	}
	defer unix.Close(fd)
	return d.wrap("syncfs", "", unix.Syncfs(fd))
}

// ReadDir lists the directory, sorted by name.
func (d *Dir) ReadDir() ([]Entry, error) {
	fd, err := openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, d.wrap("open", "", err)
	}
	defer unix.Close(fd)
	var entries []Entry
	r := dirReader{fd: fd, buf: make([]byte, direntBufSize)}
	for {
		name, typ, err := r.next()
		if err != nil {
			return nil, d.wrap("readdir", "", err)
		}
		if name == "" {
			break
		}
		entry := Entry{Name: name, Type: FileMode(uint32(typ) << 12).Type()}
		if typ == unix.DT_UNKNOWN {
			info, err := d.stat("lstat", name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			entry.Type = info.Mode.Type()
		}
		entries = append(entries, entry)
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return entries, nil
}

// check refuses names that are not one component.
func (d *Dir) check(op, name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return &fs.PathError{Op: op, Path: d.base + d.path(name), Err: fmt.Errorf("%w: not a file name", unix.EINVAL)}
	}
	return nil
}

// path gives the guest path of an entry, or that of the directory for "" and ".".
func (d *Dir) path(name string) string {
	if name == "." {
		name = ""
	}
	if d.name == "" || name == "" {
		return "/" + d.name + name
	}
	return "/" + d.name + "/" + name
}

func (d *Dir) wrap(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: d.base + d.path(name), Err: err}
}
