package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

// Destination is where a COPY goes.
type Destination struct {
	Typed   string     // as written, for messages
	Path    string     // absolute, clean
	Slash   bool       // it must be a directory
	Root    *rootfs.FS // the stage's files; nil with --link, which looks at none
	Owners  *Owners    // of Root
	Several bool       // there is more than one source
}

// Layout are the entries of a layer by path.
type Layout map[string]File

// Place gives a batch its paths in the image, over what the layout has already.
func (d *Destination) Place(l Layout, b *Batch, created Owner) error {
	base, err := d.resolve(d.Path)
	if err != nil {
		return err
	}
	exists, isDir, err := d.look(l, base)
	if err != nil {
		return err
	}
	into := d.Slash || b.Into || isDir
	switch {
	case !b.IsDir && d.Several && !into:
		return fmt.Errorf("several sources need a directory as destination: write %s/", d.Typed)
	case exists && !isDir && (b.IsDir || d.Slash):
		return fmt.Errorf("the destination %s is a file in the image, not a directory", d.Typed)
	}
	if !b.IsDir && into {
		base = path.Join(base, b.Name)
		if base, err = d.resolveParent(base); err != nil {
			return err
		}
	}
	// A directory that is there keeps its mode and its owner. With --link that is not known, but guessed from the slash.
	kept := b.IsDir && (isDir || base == "/" || d.Root == nil && d.Slash && created == (Owner{}) && len(b.files) > 1)
	for _, f := range b.files {
		if f.path == "" && kept {
			continue
		}
		f.path = path.Join(base, f.path)
		if err := d.put(l, f); err != nil {
			return err
		}
	}
	if b.IsDir || into {
		dir := base
		if !b.IsDir {
			dir = path.Dir(base)
		}
		return d.Parents(l, path.Join(dir, "x"), created)
	}
	return d.Parents(l, base, created)
}

// put adds one entry. What stands in its place must be of its kind.
func (d *Destination) put(l Layout, f File) error {
	exists, isDir, err := d.look(l, f.path)
	if err != nil {
		return err
	}
	switch {
	case exists && isDir && !f.Mode.IsDir():
		return fmt.Errorf("a file cannot replace the directory %s of the image", f.path)
	case exists && !isDir && f.Mode.IsDir():
		return fmt.Errorf("a directory cannot replace the file or link %s of the image", f.path)
	}
	l[f.path] = f
	return nil
}

// look tells what is at a path without links, in the layer or below it.
func (d *Destination) look(l Layout, name string) (exists, isDir bool, err error) {
	if f, ok := l[name]; ok {
		return true, f.Mode.IsDir(), nil
	}
	if name == "/" {
		return true, true, nil
	}
	if d.Root == nil {
		return false, false, nil
	}
	info, err := d.Root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, false, nil
	case err != nil:
		return false, false, fmt.Errorf("destination %s: %w", d.Typed, report.Cause(err))
	}
	return true, info.Mode.IsDir(), nil
}

// Parents adds the directories on the way to an entry: as they are in the image, or new ones.
// With --link nothing is known of them, so they are left to whoever unpacks the layer.
func (d *Destination) Parents(l Layout, name string, created Owner) error {
	for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) {
		if _, known := l[dir]; known {
			continue
		}
		if d.Root == nil {
			continue
		}
		f := File{path: dir, Mode: fs.ModeDir | 0o755, owner: created}
		info, err := d.Root.Lstat(dir)
		switch {
		case err == nil && !info.Mode.IsDir():
			return fmt.Errorf("destination %s: %s is not a directory", d.Typed, dir)
		case err == nil:
			f.Mode, f.MTime, f.Times, f.owner = info.Mode, info.MTime, true, d.Owners.Of(dir)
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("destination %s: %w", d.Typed, report.Cause(err))
		}
		l[dir] = f
	}
	return nil
}

// maxLinks is MAXSYMLINKS of Linux.
const maxLinks = 40

// Resolve follows the links of a root filesystem on the way to a path, the last one too, as far as
// there is something. What is missing stays as written.
func Resolve(root *rootfs.FS, name string) (string, error) {
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
		info, err := root.Lstat(here)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", report.Cause(err)
		}
		if err != nil || info.Mode&fs.ModeSymlink == 0 {
			at = here
			continue
		}
		if links++; links > maxLinks {
			return "", errors.New("too many symbolic links")
		}
		target, err := root.Readlink(here)
		if err != nil {
			return "", report.Cause(err)
		}
		if path.IsAbs(target) {
			at = "/"
		}
		todo = append(components(target), todo...)
	}
	return at, nil
}

func components(name string) []string { return strings.FieldsFunc(name, isSlash) }

// resolve is Resolve in the image.
func (d *Destination) resolve(name string) (string, error) {
	if d.Root == nil {
		return name, nil
	}
	real, err := Resolve(d.Root, name)
	if err != nil {
		return "", fmt.Errorf("destination %s: %w", d.Typed, err)
	}
	return real, nil
}

// resolveParent is resolve for an entry that replaces what has its name.
func (d *Destination) resolveParent(name string) (string, error) {
	dir, err := d.resolve(path.Dir(name))
	return path.Join(dir, path.Base(name)), err
}
