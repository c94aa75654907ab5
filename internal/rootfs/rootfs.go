// Package rootfs gives safe access to a directory tree that a stranger
// controls: a container's root filesystem, or our own state directories where a
// guest can write to them.
//
// # Threat
//
// The content of the tree is hostile, and it may change while we work on it: a
// running guest has the same user as we have and can swap a directory for a link
// between any two of our system calls. So a check followed by a use proves
// nothing, and a path of several components is never given to the kernel, which
// would follow links by the host's rules and out of the tree. Instead:
//
//   - Names are resolved here, one component at a time, from a descriptor of
//     the tree's root. Each step opens one component with O_NOFOLLOW; a link is
//     read, and its target resolved by the same steps, as a process chrooted
//     into the tree would resolve it: absolute targets restart at the root, and
//     ".." stops there. ".." is never asked of the kernel, since a directory
//     that was moved meanwhile has its parent elsewhere: the walk starts again
//     from the root with the shortened path. Links (40) and steps are bounded.
//   - What is done at the end of a walk is done to one component relative to a
//     held directory, by calls that do not follow a link in the last place.
//     Whatever is swapped meanwhile, they touch an entry of that directory or fail.
//   - Files are opened with O_NONBLOCK and must turn out to be regular: a FIFO or
//     a device where a file is expected yields [ErrUnsafe] and never blocks.
//
// What remains is that a directory which is moved while we hold it stays held:
// work goes on in it, wherever it is now. Whoever can move it could have written
// there himself.
//
// Only system calls of Linux 3.6 are used, since Android kills a process for
// others, and /proc serves only to change modes (see [Dir.Chmod]).
//
// Errors are [*fs.PathError] with the path as the guest sees it, or with that of the host for a
// tree in which links are refused, so errors.Is works with fs.ErrNotExist and with syscall errors. An [FS] and a [Dir] may be
// used by several goroutines at once, except for Close.
package rootfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Links says what a tree's symbolic links mean on the way to a file.
type Links int

const (
	// GuestLinks follows links as a process chrooted into the tree would:
	// absolute targets restart at the tree's root and ".." stops there.
	GuestLinks Links = iota
	// NoLinks refuses any link on the way: for state directories, where we
	// make none.
	NoLinks
)

// ErrUnsafe wraps refusals to touch an entry that is not what it must be: a
// link in a NoLinks tree, a FIFO or a device in the place of a file.
var ErrUnsafe = errors.New("unsafe file")

// ErrTooLarge wraps the refusal of [FS.ReadFile] to read more than its limit.
var ErrTooLarge = errors.New("file too large")

// FS is an open tree. All names are slash-separated, relative to the tree's root
// (a leading slash is allowed), and are never resolved by the host's rules.
type FS struct {
	root  Dir
	path  string
	links Links
	view  bool     // of a tree that somebody else closes
	names []string // host paths that mean the root in link targets
}

// Info describes an entry, as lstat(2) does.
type Info struct {
	Mode            fs.FileMode // Go's form, setuid etc. included
	Size            int64
	Stored          int64 // bytes on the disk, of which a file with holes has fewer
	MTime           time.Time
	Dev, Ino, Nlink uint64
	UID, GID        int
}

// Entry is a directory's entry.
type Entry struct {
	Name string
	Type fs.FileMode // as fs.FileMode.Type
}

// Open opens the tree at dir, a path of the host that is trusted and resolved by
// the host's rules.
func Open(dir string, links Links) (*FS, error) {
	fd, err := openat(unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	t := &FS{root: Dir{fd: fd, shared: true}, path: dir, links: links}
	t.root.base = t.base()
	return t, nil
}

// base is put in front of paths in errors. A guest's path is told as the guest sees it, one of
// our own as the user can find it.
func (t *FS) base() string {
	if t.links == NoLinks {
		return strings.TrimRight(t.path, "/")
	}
	return ""
}

// OpenState opens one of our state directories, in which no link is followed. Where dir lies
// below base, none is followed on the way from there either: who can write in base, as guests
// on Termux can, must not choose where dir is. With create, what is missing is made for this
// user alone, and what others can enter is closed to them: in a tree of root filesystems are setuid
// programs, which would give another user of this machine the identity of this one.
func OpenState(base, dir string, create bool) (*FS, error) {
	below, err := filepath.Rel(base, dir)
	if err != nil || !filepath.IsLocal(below) {
		base, below = dir, "."
	}
	if create {
		if err := os.MkdirAll(base, 0o700); err != nil {
			return nil, err
		}
	}
	tree, err := Open(base, NoLinks)
	if err != nil {
		return nil, err
	}
	if create {
		tree.closeToOthers()
	}
	if below == "." {
		return tree, nil
	}
	defer tree.Close()
	if create {
		if err := tree.MkdirAll(below, 0o700); err != nil {
			return nil, err
		}
	}
	return tree.Sub(below, NoLinks)
}

// closeToOthers leaves a tree as it is that does not belong to this user.
func (t *FS) closeToOthers() {
	var st unix.Stat_t
	if unix.Fstat(t.root.fd, &st) == nil && st.Mode&0o077 != 0 {
		_ = unix.Fchmodat(t.root.fd, ".", st.Mode&0o7700, 0)
	}
}

// View gives the same tree with another meaning of links. It needs no Close, and
// is valid until t is closed.
func (t *FS) View(links Links) *FS {
	v := &FS{root: t.root, path: t.path, links: links, view: true}
	v.root.base = v.base()
	return v
}

// Anchored gives the same tree, in which a link target that begins with one of these host
// paths of the root means what is there in the tree: proot writes such links. As with View,
// it needs no Close.
func (t *FS) Anchored(roots []string) *FS {
	return &FS{root: t.root, path: t.path, links: t.links, view: true, names: roots}
}

// Sub opens the directory name of t as a tree of its own. Its links can't lead back into t.
func (t *FS) Sub(name string, links Links) (*FS, error) {
	d, err := t.OpenDir(name)
	if err != nil {
		return nil, err
	}
	sub := &FS{root: Dir{fd: d.fd, shared: true}, path: filepath.Join(t.path, filepath.FromSlash(d.Path())), links: links}
	sub.root.base = sub.base()
	return sub, nil
}

// Close releases the tree. Directories opened in it stay open.
func (t *FS) Close() error {
	if t.view {
		return nil
	}
	t.root.shared = false
	return t.root.Close()
}

// Path gives the host path of the root, as it was given to [Open].
func (t *FS) Path() string { return t.path }

// Resolve gives the path of an existing entry without any links: "/usr/bin/bash"
// for "/bin/bash" where /bin is a link to usr/bin.
func (t *FS) Resolve(name string) (string, error) {
	d, base, err := t.locate("resolve", name, followLast)
	if err != nil {
		return "", err
	}
	defer d.Close()
	if _, err := d.stat("resolve", base); err != nil {
		return "", err
	}
	return d.path(base), nil
}

// Stat describes what name leads to.
func (t *FS) Stat(name string) (Info, error) { return t.stat("stat", name, followLast) }

// Lstat is Stat, but describes a link in the last place itself.
func (t *FS) Lstat(name string) (Info, error) { return t.stat("lstat", name, 0) }

func (t *FS) stat(op, name string, how walkFlags) (Info, error) {
	d, base, err := t.locate(op, name, how)
	if err != nil {
		return Info{}, err
	}
	defer d.Close()
	return d.stat(op, base)
}

// Open opens a regular file for reading. Links are followed; anything but a
// regular file is refused with [ErrUnsafe], and opening never blocks.
func (t *FS) Open(name string) (*os.File, error) {
	d, base, err := t.locate("open", name, followLast)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.openFile(base, unix.O_RDONLY, 0)
}

// ReadFile reads a whole regular file, as [FS.Open] opens it, of at most limit
// bytes; a larger one is refused with [ErrTooLarge].
func (t *FS) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := t.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = &fs.PathError{Op: "read", Path: f.Name(), Err: fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)}
	}
	if err != nil {
		return nil, err
	}
	return data, nil
}

// WriteFile puts a file with exactly these data and permissions, whatever the
// umask, in the place of name. The directory is found through links; a link in
// the last place is replaced and not followed. See [Dir.WriteFile].
func (t *FS) WriteFile(name string, data []byte, perm fs.FileMode) error {
	return t.in("write", name, func(d *Dir, base string) error { return d.WriteFile(base, data, perm) })
}

// ReadDir lists a directory, sorted by name.
func (t *FS) ReadDir(name string) ([]Entry, error) {
	d, _, err := t.locate("open", name, descendLast)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.ReadDir()
}

// Readlink gives a link's target.
func (t *FS) Readlink(name string) (string, error) {
	var target string
	err := t.in("readlink", name, func(d *Dir, base string) (err error) {
		target, err = d.Readlink(base)
		return err
	})
	return target, err
}

// Symlink makes name a link to target, which may be any text.
func (t *FS) Symlink(target, name string) error {
	return t.in("symlink", name, func(d *Dir, base string) error { return d.Symlink(target, base) })
}

// Mkdir creates a directory with permissions perm before umask.
func (t *FS) Mkdir(name string, perm fs.FileMode) error {
	return t.in("mkdir", strings.TrimRight(name, "/"), func(d *Dir, base string) error { return d.Mkdir(base, perm) })
}

// MkdirAll creates a directory and the missing ones on the way to it, also
// where a link on the way leads to a missing one; each with exactly these
// permissions, whatever the umask.
func (t *FS) MkdirAll(name string, perm fs.FileMode) error {
	d, err := t.walk("mkdir", name, &walk{flags: descendLast | createMissing, perm: perm})
	if err != nil {
		return err
	}
	return d.Close()
}

// Chmod sets an entry's mode; see [Dir.Chmod]. A link in the last place is refused.
func (t *FS) Chmod(name string, mode fs.FileMode) error {
	return t.in("chmod", name, func(d *Dir, base string) error { return d.Chmod(base, mode) })
}

// Chtimes sets an entry's modification time; see [Dir.Chtimes].
func (t *FS) Chtimes(name string, mtime time.Time) error {
	return t.in("chtimes", name, func(d *Dir, base string) error { return d.Chtimes(base, mtime) })
}

// Rename moves an entry, replacing what stands at newname as rename(2) does.
func (t *FS) Rename(oldname, newname string) error {
	return t.in("rename", oldname, func(from *Dir, oldbase string) error {
		return t.in("rename", newname, func(to *Dir, newbase string) error { return from.Rename(oldbase, to, newbase) })
	})
}

// Remove removes a file, a link or an empty directory.
func (t *FS) Remove(name string) error {
	return t.in("remove", name, (*Dir).Remove)
}

// RemoveAll removes an entry and everything in it; see [Dir.RemoveAll].
func (t *FS) RemoveAll(name string, o RemoveOptions) error {
	err := t.in("remove", name, func(d *Dir, base string) error { return d.RemoveAll(base, o) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// OpenDir opens a directory, links followed.
func (t *FS) OpenDir(name string) (*Dir, error) {
	d, _, err := t.locate("open", name, descendLast)
	if err != nil {
		return nil, err
	}
	return d.own()
}

// Parent opens the directory that holds the last component of name, links
// followed on the way, and gives that component, which need not exist. The root
// has no parent.
func (t *FS) Parent(name string) (*Dir, string, error) {
	d, base, err := t.locate("open", strings.TrimRight(name, "/"), 0)
	if err != nil {
		return nil, "", err
	}
	if base == "." {
		d.Close()
		return nil, "", &fs.PathError{Op: "open", Path: t.base() + guestPath(name), Err: unix.EINVAL}
	}
	d, err = d.own()
	return d, base, err
}

// in calls f with the directory of name's last component and that component,
// which is not followed.
func (t *FS) in(op, name string, f func(d *Dir, base string) error) error {
	d, base, err := t.locate(op, name, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	return f(d, base)
}

func guestPath(name string) string { return "/" + strings.Trim(name, "/") }
