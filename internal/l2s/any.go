package l2s

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"golang.org/x/sys/unix"

	"proot-distro/internal/rootfs"
)

// Any looks through a whole tree for a stand-in. Directories that are closed to this
// process, and so to guests, count as empty.
func Any(tree *rootfs.FS) (bool, error) {
	t, plain := New(tree), tree.View(rootfs.NoLinks)
	for dirs := []string{"/"}; len(dirs) > 0; {
		name := dirs[len(dirs)-1]
		found, below, err := t.anyIn(plain, name)
		if found || err != nil {
			return found, err
		}
		dirs = append(dirs[:len(dirs)-1], below...)
	}
	return false, nil
}

// anyIn looks through one directory, and names those below it.
func (t *Tree) anyIn(plain *rootfs.FS, name string) (found bool, below []string, err error) {
	d, err := plain.OpenDir(name)
	if err == nil {
		defer d.Close()
		var entries []rootfs.Entry
		entries, err = d.ReadDir()
		for _, e := range entries {
			switch {
			case e.Type.IsDir():
				below = append(below, path.Join(name, e.Name))
			case e.Type == fs.ModeSymlink:
				target, err := d.Readlink(e.Name)
				if _, ok := t.Resolve(target); ok && err == nil {
					return true, nil, nil
				}
			}
		}
	}
	// Others may be at work in the tree; and where paths become too long for proot no stand-ins are.
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENAMETOOLONG):
	case err != nil:
		return false, nil, fmt.Errorf("look for hard links of proot: %w", err)
	}
	return false, below, nil
}
