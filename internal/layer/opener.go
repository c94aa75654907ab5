package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"proot-distro/internal/rootfs"
)

// opener reads a tree, also what modes forbid its owner to read: such modes are widened, and
// put back by close.
type opener struct {
	root   *rootfs.FS // without links
	dirs   *dirCache
	opened []openedDir
}

type openedDir struct {
	path string
	mode fs.FileMode
}

func newOpener(root *rootfs.FS) *opener {
	root = root.View(rootfs.NoLinks)
	return &opener{root: root, dirs: newDirCache(root)}
}

// dirAt gives a directory, valid until the next call.
func (o *opener) dirAt(path string) (d *rootfs.Dir, err error) {
	o.dirs.begin()
	parent, _ := splitName(path[1:])
	err = o.try("/"+parent, func() error { d, err = o.dirs.open(path[1:], nil); return err })
	return d, err
}

func (o *opener) readDir(path string) (*rootfs.Dir, []rootfs.Entry, error) {
	d, err := o.dirAt(path)
	if err != nil {
		return nil, nil, err
	}
	var entries []rootfs.Entry
	err = o.try(path, func() error { entries, err = d.ReadDir(); return err })
	return d, entries, err
}

// openRegular opens a file in d. It is given its mode back at once.
func (o *opener) openRegular(d *rootfs.Dir, base string) (f *os.File, err error) {
	err = o.try(d.Path(), func() error { f, err = d.Open(base); return err })
	if !errors.Is(err, unix.EACCES) {
		return f, err
	}
	info, statErr := d.Lstat(base)
	if statErr != nil || !info.Mode.IsRegular() || d.Chmod(base, info.Mode|0o400) != nil {
		return nil, err
	}
	f, err = d.Open(base)
	if chmodErr := d.Chmod(base, info.Mode); err == nil && chmodErr != nil {
		f.Close()
		err = chmodErr
	}
	return f, err
}

// try does something again after getting access to a directory, when a mode forbids it.
func (o *opener) try(dir string, act func() error) error {
	err := act()
	if errors.Is(err, unix.EACCES) && o.open(dir) {
		err = act()
	}
	return err
}

// open gives us access to a directory and to those on the way to it, and reports whether
// that changed anything.
func (o *opener) open(path string) (changed bool) {
	if path == "/" {
		return false
	}
	info, err := o.root.Lstat(path)
	if errors.Is(err, unix.EACCES) {
		parent, _ := splitName(path[1:])
		changed = o.open("/" + parent)
		info, err = o.root.Lstat(path)
	}
	if err != nil || !info.Mode.IsDir() || info.Mode&ownerAccess == ownerAccess {
		return changed
	}
	if o.chmod(path, info.Mode|ownerAccess) != nil {
		return changed
	}
	o.opened = append(o.opened, openedDir{path, info.Mode})
	return true
}

func (o *opener) chmod(path string, mode fs.FileMode) error {
	d, base, err := o.root.Parent(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Chmod(base, mode)
}

// close puts modes back, those of inner directories first.
func (o *opener) close() error {
	o.dirs.close()
	var errs []error
	for _, d := range slices.Backward(o.opened) {
		if err := o.chmod(d.path, d.mode); err != nil && !isReplaced(err) {
			errs = append(errs, fmt.Errorf("put mode of %s back: %w", quote(d.path), err))
		}
	}
	o.opened = nil
	return errors.Join(errs...)
}
