package l2s

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"proot-distro/internal/rootfs"
)

// Move says where a tree was and where it is, as host paths.
type Move struct {
	From []string // see [Roots]
	To   string
	// OnEntries is told now and then how many more entries were looked at; may be nil.
	OnEntries func(n int)
}

// tempName is a link on its way to its name. What a killed process left is recognised
// by its target; anything else of this name has to give way.
const tempName = ".l2s.pd-new"

// Rewrite makes the stand-ins of a tree that was moved lead to where it is now. Nobody
// else may use the tree meanwhile. Each link is replaced at once, and those that lead there
// already are left alone: after a kill, a second Rewrite does the rest. Directories that
// their modes close are opened for it and closed again.
func Rewrite(tree *rootfs.FS, m Move) error {
	r := &rewriter{tree: tree.View(rootfs.NoLinks), Move: m}
	if r.OnEntries == nil {
		r.OnEntries = func(int) {}
	}
	if err := r.dir("/"); err != nil {
		return fmt.Errorf("rewrite hard links: %w", err)
	}
	return nil
}

type rewriter struct {
	Move
	tree *rootfs.FS
}

// dir goes through a directory. It is opened by its path and not from its parent: where paths
// become too long for proot no stand-ins are, and so no more than some 2000 are open at once.
func (r *rewriter) dir(name string) (err error) {
	d, err := r.tree.OpenDir(name)
	if errors.Is(err, unix.ENAMETOOLONG) {
		return nil
	} else if err != nil {
		return err
	}
	w := &widened{Dir: d}
	defer func() { err = errors.Join(err, w.close()) }()
	var entries []rootfs.Entry
	err = w.try(func() error { entries, err = d.ReadDir(); return err })
	if err != nil {
		return err
	}
	r.OnEntries(len(entries))
	for _, e := range entries {
		switch {
		case e.Type.IsDir():
			err = w.try(func() error { return r.dir(path.Join(name, e.Name)) })
		case e.Type == fs.ModeSymlink:
			err = r.link(w, e.Name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *rewriter) link(d *widened, name string) error {
	var target string
	err := d.try(func() (err error) { target, err = d.Readlink(name); return err })
	if name == tempName && errors.Is(err, fs.ErrNotExist) {
		return nil // replaced since the directory was listed
	} else if err != nil {
		return err
	}
	moved, ok := Reroot(target, r.From, r.To)
	if name == tempName {
		if _, done := inside(target, []string{r.To}); ok || done {
			return d.change(func() error { return d.Remove(name) })
		}
	}
	if !ok || moved == target {
		return nil
	}
	return d.change(func() error {
		err := d.Symlink(moved, tempName)
		if errors.Is(err, fs.ErrExist) {
			if err = d.RemoveAll(tempName, rootfs.RemoveOptions{}); err == nil {
				err = d.Symlink(moved, tempName)
			}
		}
		if err == nil {
			err = d.Rename(tempName, d.Dir, name)
		}
		if err != nil {
			_ = d.Remove(tempName) // the first error tells what is wrong
		}
		return err
	})
}

// widened is a directory that is made accessible to its owner when that is needed.
// close puts its mode and its modification time back.
type widened struct {
	*rootfs.Dir
	before  unix.Stat_t // once known
	known   bool
	opened  bool
	changed bool
}

// try does something again after opening the directory, when its mode forbids it.
func (w *widened) try(act func() error) error {
	err := act()
	if !errors.Is(err, fs.ErrPermission) || w.opened || w.remember() != nil {
		return err
	}
	if w.before.Mode&0o700 == 0o700 || unix.Chmod(w.proc(), 0o700) != nil {
		return err
	}
	w.opened = true
	return act()
}

// change is try for what changes entries.
func (w *widened) change(act func() error) error {
	if err := w.remember(); err != nil {
		return err
	}
	w.changed = true
	return w.try(act)
}

func (w *widened) remember() error {
	if w.known {
		return nil
	}
	if err := unix.Fstat(w.Fd(), &w.before); err != nil {
		return &fs.PathError{Op: "stat", Path: w.Path(), Err: err}
	}
	w.known = true
	return nil
}

// proc is a path to the directory itself, which a descriptor of O_PATH needs.
func (w *widened) proc() string { return "/proc/self/fd/" + strconv.Itoa(w.Fd()) }

func (w *widened) close() error {
	if w.changed {
		// A time that can't be put back is no reason to fail.
		_ = unix.UtimesNanoAt(unix.AT_FDCWD, w.proc(), []unix.Timespec{{Nsec: unix.UTIME_OMIT}, w.before.Mtim}, 0)
	}
	var err error
	if w.opened {
		if err = unix.Chmod(w.proc(), uint32(w.before.Mode)&0o7777); err != nil {
			err = &fs.PathError{Op: "chmod", Path: w.Path(), Err: err}
		}
	}
	return errors.Join(err, w.Dir.Close())
}
