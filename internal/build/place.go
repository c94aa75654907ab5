package build

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"proot-distro/internal/rootfs"
)

// destination is where a COPY goes.
type destination struct {
	typed   string     // as written, for messages
	path    string     // absolute, clean
	slash   bool       // it must be a directory
	root    *rootfs.FS // the stage's files; nil with --link, which looks at none
	owners  owners     // of root
	several bool       // there is more than one source
}

// layout are the entries of a layer by path.
type layout map[string]file

// place gives a batch its paths in the image, over what the layout has already.
func (d *destination) place(l layout, b *batch, created owner) error {
	base, err := d.resolve(d.path)
	if err != nil {
		return err
	}
	exists, isDir, err := d.look(l, base)
	if err != nil {
		return err
	}
	into := d.slash || b.into || isDir
	switch {
	case !b.isDir && d.several && !into:
		return fmt.Errorf("several sources need a directory as destination: write %s/", d.typed)
	case exists && !isDir && (b.isDir || d.slash):
		return fmt.Errorf("the destination %s is a file in the image, not a directory", d.typed)
	}
	if !b.isDir && into {
		base = path.Join(base, b.name)
		if base, err = d.resolveParent(base); err != nil {
			return err
		}
	}
	for _, f := range b.files {
		if f.path == "" && b.isDir && (into || base == "/") {
			continue // the destination keeps, or gets, a directory's usual mode
		}
		f.path = path.Join(base, f.path)
		if err := d.put(l, f); err != nil {
			return err
		}
	}
	if b.isDir || into {
		dir := base
		if !b.isDir {
			dir = path.Dir(base)
		}
		return d.parents(l, path.Join(dir, "x"), created)
	}
	return d.parents(l, base, created)
}

// put adds one entry. What stands in its place must be of its kind.
func (d *destination) put(l layout, f file) error {
	exists, isDir, err := d.look(l, f.path)
	if err != nil {
		return err
	}
	switch {
	case exists && isDir && !f.mode.IsDir():
		return fmt.Errorf("a file cannot replace the directory %s of the image", f.path)
	case exists && !isDir && f.mode.IsDir():
		return fmt.Errorf("a directory cannot replace the file or link %s of the image", f.path)
	}
	l[f.path] = f
	return nil
}

// look tells what is at a path without links, in the layer or below it.
func (d *destination) look(l layout, name string) (exists, isDir bool, err error) {
	if f, ok := l[name]; ok {
		return true, f.mode.IsDir(), nil
	}
	if name == "/" {
		return true, true, nil
	}
	if d.root == nil {
		return false, false, nil
	}
	info, err := d.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, false, nil
	case err != nil:
		return false, false, fmt.Errorf("destination %s: %w", d.typed, innermost(err))
	}
	return true, info.Mode.IsDir(), nil
}

// parents adds the directories on the way to an entry: as they are in the image, or new ones.
// With --link nothing is known of them, so they are left to whoever unpacks the layer.
func (d *destination) parents(l layout, name string, created owner) error {
	for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) {
		if _, known := l[dir]; known {
			continue
		}
		if d.root == nil {
			continue
		}
		f := file{path: dir, mode: fs.ModeDir | 0o755, owner: created}
		info, err := d.root.Lstat(dir)
		switch {
		case err == nil && !info.Mode.IsDir():
			return fmt.Errorf("destination %s: %s is not a directory", d.typed, dir)
		case err == nil:
			f.mode, f.mtime, f.times, f.owner = info.Mode, info.MTime, true, d.owners[dir]
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("destination %s: %w", d.typed, innermost(err))
		}
		l[dir] = f
	}
	return nil
}

// maxLinks is MAXSYMLINKS of Linux.
const maxLinks = 40

// resolve follows the links of the image on the way to a path, the last one too, as far as
// there is something. What is missing stays as written.
func (d *destination) resolve(name string) (string, error) {
	if d.root == nil {
		return name, nil
	}
	todo := components(name)
	at, links := "/", 0
	for len(todo) > 0 {
		next := todo[0]
		todo = todo[1:]
		if next == ".." {
			at = path.Dir(at)
			continue
		}
		here := path.Join(at, next)
		info, err := d.root.Lstat(here)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("destination %s: %w", d.typed, innermost(err))
		}
		if err != nil || info.Mode&fs.ModeSymlink == 0 {
			at = here
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("destination %s: too many symbolic links", d.typed)
		}
		target, err := d.root.Readlink(here)
		if err != nil {
			return "", fmt.Errorf("destination %s: %w", d.typed, innermost(err))
		}
		if path.IsAbs(target) {
			at = "/"
		}
		todo = append(components(target), todo...)
	}
	return at, nil
}

// resolveParent is resolve for an entry that replaces what has its name.
func (d *destination) resolveParent(name string) (string, error) {
	dir, err := d.resolve(path.Dir(name))
	return path.Join(dir, path.Base(name)), err
}

func components(name string) []string {
	return strings.FieldsFunc(name, func(r rune) bool { return r == '/' })
}
