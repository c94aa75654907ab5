package rootfs

import (
	"encoding/binary"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// RemoveOptions are the options of RemoveAll.
type RemoveOptions struct {
	OnRemove func(path string) // called with the guest path of each removed entry, when not nil
	// Stop is asked before each entry, when not nil: its error ends the work and is returned.
	Stop func() error
}

// maxHeld bounds the directories that are held open at once while a tree is removed.
const maxHeld = 64

const direntBufSize = 32 << 10

// RemoveAll removes an entry and everything in it. A missing entry is no error.
// Directories whose modes forbid it are made writable first; a directory on which
// something is mounted stays, content and all, and is an error (EBUSY). What can
// be removed is removed, and the first error returned.
//
// It holds at most 64 directories open: deeper ones are moved up to the top of the
// tree being removed, and removed from there.
func (d *Dir) RemoveAll(name string, o RemoveOptions) error {
	if err := d.check("remove", name); err != nil {
		return err
	}
	r := remover{base: d.base, onRemove: o.OnRemove, stop: o.Stop, moved: map[string]*removal{}}
	r.remove(&removal{fd: d.fd, name: d.name, foreign: true}, name, unix.DT_UNKNOWN)
	return r.err
}

// removal is a directory whose content is being removed.
type removal struct {
	parent  *removal
	name    string // below parent, or the path of the outermost
	fd      int
	depth   int
	foreign bool // the directory itself is not ours to change
	opened  bool // its permissions have been widened
}

type remover struct {
	base     string // of paths in errors
	onRemove func(string)
	stop     func() error
	err      error // the first

	top   *removal            // the tree being removed
	moved map[string]*removal // directories moved to the top: what they were
	bufs  [maxHeld + 1][]byte // of dirReaders, by depth
}

// remove removes one entry and reports whether it did so, or moved it up.
func (r *remover) remove(dir *removal, name string, typ uint8) bool {
	self := &removal{parent: dir, name: name, depth: dir.depth + 1}
	if was := r.moved[name]; was != nil && dir == r.top {
		self.parent, self.name = was.parent, was.name
	}
	err := error(unix.EISDIR)
	if typ != unix.DT_DIR {
		err = dir.unlink(name, 0)
	}
	if err == unix.EISDIR {
		// An empty directory is gone at once, and a mount point is found before
		// anything in it is touched.
		err = dir.unlink(name, unix.AT_REMOVEDIR)
		if err == unix.ENOTDIR { // replaced meanwhile
			err = dir.unlink(name, 0)
		}
	}
	if err == unix.ENOTEMPTY || err == unix.EEXIST {
		if self.depth > maxHeld {
			if err = r.moveUp(dir, self); err == nil {
				return true
			}
		} else {
			err = r.empty(dir, name, self)
		}
	}
	switch {
	case err == nil:
		if r.onRemove != nil {
			r.onRemove(self.path())
		}
		return true
	case err != unix.ENOENT && r.err == nil:
		r.err = &fs.PathError{Op: "remove", Path: r.base + self.path(), Err: err}
	}
	return false
}

// empty removes the directory name of dir with its content.
func (r *remover) empty(dir *removal, name string, self *removal) error {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW
	fd, err := openat(dir.fd, name, flags, 0)
	if err == unix.EACCES && chmodat(dir.fd, name, 0o700) == nil {
		self.opened = true
		fd, err = openat(dir.fd, name, flags, 0)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	self.fd = fd
	if r.top == nil {
		r.top = self
	}
	if r.bufs[self.depth] == nil {
		r.bufs[self.depth] = make([]byte, direntBufSize)
	}
	for {
		removed, err := r.pass(self)
		if err != nil {
			return err
		}
		err = dir.unlink(name, unix.AT_REMOVEDIR)
		if err != unix.ENOTEMPTY && err != unix.EEXIST || removed == 0 {
			return err
		}
		// There is more: what was moved up, or created meanwhile.
		if _, err := unix.Seek(fd, 0, 0); err != nil {
			return err
		}
	}
}

// pass goes through a directory once, and counts what it removed.
func (r *remover) pass(dir *removal) (removed int, err error) {
	entries := dirReader{fd: dir.fd, buf: r.bufs[dir.depth]}
	for {
		name, typ, err := entries.next()
		if err != nil || name == "" {
			return removed, err
		}
		if err := r.stopped(); err != nil {
			return removed, err
		}
		if r.remove(dir, name, typ) {
			removed++
		}
	}
}

// stopped gives the error that ends the work, which counts more than what went wrong before.
func (r *remover) stopped() error {
	if r.stop == nil {
		return nil
	}
	err := r.stop()
	if err != nil {
		r.err = err
	}
	return err
}

// moveUp moves a directory that is too deep to the top of the tree.
func (r *remover) moveUp(dir, self *removal) error {
	for {
		name := ".pd-removed-" + strconv.Itoa(len(r.moved))
		r.moved[name] = self
		err := unix.Renameat(dir.fd, self.name, r.top.fd, name)
		if err == unix.EACCES { // its ".." changes, for which it must be writable
			if chmodat(dir.fd, self.name, 0o700) == nil && r.top.open() {
				err = unix.Renameat(dir.fd, self.name, r.top.fd, name)
			}
		}
		if err == nil {
			return nil
		}
		delete(r.moved, name)
		if err != unix.EEXIST && err != unix.ENOTEMPTY && err != unix.ENOTDIR {
			return err
		}
		r.moved[name] = nil // taken
	}
}

// unlink is unlinkat(2) in a directory that may not be writable yet.
func (dir *removal) unlink(name string, flags int) error {
	err := unix.Unlinkat(dir.fd, name, flags)
	if err == unix.EACCES && !dir.opened && dir.open() {
		err = unix.Unlinkat(dir.fd, name, flags)
	}
	return err
}

// open makes a directory accessible to its owner.
func (dir *removal) open() bool {
	if !dir.foreign && !dir.opened {
		dir.opened = unix.Fchmod(dir.fd, 0o700) == nil
	}
	return dir.opened
}

func (dir *removal) path() string {
	var parts []string
	for ; dir != nil; dir = dir.parent {
		if dir.name != "" {
			parts = append(parts, dir.name)
		}
	}
	slices.Reverse(parts)
	return "/" + strings.Join(parts, "/")
}

// dirReader reads a directory's entries by getdents64(2), which os.File.ReadDir
// does too, but asks for a missing type by path.
type dirReader struct {
	fd   int
	buf  []byte
	rest []byte
}

// next gives the next entry's name and type (DT_*); the name is empty at the end.
func (r *dirReader) next() (string, uint8, error) {
	for {
		if len(r.rest) == 0 {
			n, err := unix.Getdents(r.fd, r.buf)
			if err != nil || n <= 0 {
				return "", 0, err
			}
			r.rest = r.buf[:n]
		}
		// struct linux_dirent64: ino, off (8 bytes each), reclen (2), type (1), name
		reclen := binary.NativeEndian.Uint16(r.rest[16:])
		typ, name := r.rest[18], r.rest[19:reclen]
		r.rest = r.rest[reclen:]
		if s := unix.ByteSliceToString(name); s != "." && s != ".." && s != "" {
			return s, typ, nil
		}
	}
}
