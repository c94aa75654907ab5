package build

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"proot-distro/internal/build/layout"
	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

// stubs are mount points that a RUN needs and its image lacks: made before it, in nobody's
// layer, and removed again. What a command puts into such a directory stays.
type stubs []string // in the order of making

// add makes sure that there is something to mount on, and gives its path without links.
func (st *stubs) add(root *rootfs.FS, target string, dir bool) (string, error) {
	at, err := layout.Resolve(root, target)
	if err != nil {
		return "", fmt.Errorf("mount at %s: %w", target, err)
	}
	names := strings.Split(strings.Trim(at, "/"), "/")
	for i := range names {
		name := "/" + path.Join(names[:i+1]...)
		info, err := root.Lstat(name)
		last := i == len(names)-1
		switch {
		case err == nil && (!last || dir) && !info.Mode.IsDir():
			return "", fmt.Errorf("mount at %s: %s is not a directory", target, name)
		case err == nil && last && !dir && info.Mode.IsDir():
			return "", fmt.Errorf("mount at %s: it is a directory", target)
		case err == nil:
			continue
		case !errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("mount at %s: %w", target, report.Cause(err))
		}
		if err := keepTime(root, name, func() error {
			if last && !dir {
				return root.WriteFile(name, nil, 0o644)
			}
			return root.Mkdir(name, 0o755)
		}); err != nil {
			return "", fmt.Errorf("mount at %s: %w", target, report.Cause(err))
		}
		*st = append(*st, name)
	}
	return at, nil
}

// remove takes away what add made, but for directories that have content now.
func (st stubs) remove(root *rootfs.FS) error {
	for i := len(st) - 1; i >= 0; i-- {
		name := st[i]
		info, err := root.Lstat(name)
		if err != nil || info.Mode.IsRegular() && info.Size > 0 {
			continue
		}
		if entries, err := root.ReadDir(name); info.Mode.IsDir() && (err != nil || len(entries) > 0) {
			continue
		}
		if err := keepTime(root, name, func() error { return root.Remove(name) }); err != nil {
			return fmt.Errorf("remove mount point: %w", err)
		}
	}
	return nil
}

// keepTime changes a directory and gives it its modification time back.
func keepTime(root *rootfs.FS, name string, change func() error) error {
	parent := path.Dir(name)
	info, err := root.Lstat(parent)
	if err != nil {
		return err
	}
	if err := change(); err != nil || parent == "/" {
		return err
	}
	dir, base, err := root.Parent(parent)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Chtimes(base, info.MTime)
}

// below reports whether a guest path is one of the targets or in one.
func below(name string, targets []string) bool {
	for _, t := range targets {
		if name == t || strings.HasPrefix(name, t) && name[len(t)] == '/' {
			return true
		}
	}
	return false
}
