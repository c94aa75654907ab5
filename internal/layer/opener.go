package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"proot-distro/internal/rootfs"
)

// modes widens the modes of directories that their owner may not read, until restore. It is safe for
// concurrent use.
type modes struct {
	root *rootfs.FS // without links

	mu     sync.Mutex
	opened []openedDir
}

type openedDir struct {
	path string
	mode fs.FileMode
}

func newModes(root *rootfs.FS) *modes { return &modes{root: root.View(rootfs.NoLinks)} }

// open gives us access to a directory and to those on the way to it, if that is possible.
func (m *modes) open(path string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.openLocked(path)
}

func (m *modes) openLocked(path string) {
	if path == "/" {
		return
	}
	info, err := m.root.Lstat(path)
	if errors.Is(err, unix.EACCES) {
		parent, _ := splitName(path[1:])
		m.openLocked("/" + parent)
		info, err = m.root.Lstat(path)
	}
	if err != nil || !info.Mode.IsDir() || info.Mode&ownerAccess == ownerAccess {
		return
	}
	if m.root.Chmod(path, info.Mode|ownerAccess) == nil {
		m.opened = append(m.opened, openedDir{path, info.Mode})
	}
}

// restore puts modes back, those of inner directories first.
func (m *modes) restore() error {
	var errs []error
	for _, d := range slices.Backward(m.opened) {
		if err := m.root.Chmod(d.path, d.mode); err != nil && !isReplaced(err) {
			errs = append(errs, fmt.Errorf("put mode of %s back: %w", quote(d.path), err))
		}
	}
	m.opened = nil
	return errors.Join(errs...)
}

// opener reads a tree, also what modes forbid its owner to read.
type opener struct {
	*modes
	dirs *dirCache
}

func newOpener(m *modes) *opener { return &opener{modes: m, dirs: newDirCache(m.root)} }

func (o *opener) close() { o.dirs.close() }

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

// openAt opens a file.
func (o *opener) openAt(name string) (*os.File, error) {
	dir, base := splitName(name[1:])
	d, err := o.dirAt("/" + dir)
	if err != nil {
		return nil, err
	}
	return o.openRegular(d, base)
}

func (o *opener) readlink(name string) (target string, err error) {
	dir, base := splitName(name[1:])
	d, err := o.dirAt("/" + dir)
	if err != nil {
		return "", err
	}
	err = o.try("/"+dir, func() error { target, err = d.Readlink(base); return err })
	return target, err
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
	if errors.Is(err, unix.EACCES) {
		o.open(dir) // or somebody else has done so meanwhile
		err = act()
	}
	return err
}
