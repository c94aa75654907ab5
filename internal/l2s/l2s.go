// Package l2s knows the stand-ins that proot's link2symlink extension leaves where a
// guest made a hard link and the host forbids them, as Android does.
//
// A file with several names becomes, for each of its names, a symbolic link to an
// intermediate link, which leads to the file:
//
//	/usr/bin/perl                  → <root>/.l2s/.l2s.perl0001
//	<root>/.l2s/.l2s.perl0001      → <root>/.l2s/.l2s.perl0001.0002
//	<root>/.l2s/.l2s.perl0001.0002   the file; the last number counts its names
//
// The two at the end lie in /.l2s of the guest, or beside the first name where an
// older program ran. The targets are absolute paths of the host, <root> being the
// host path of the root filesystem: when that moves, [Rewrite] has to follow. proot alone
// understands them; whoever else reads a tree asks [Tree.Resolve] what a link means,
// and leaves out what [Tree.Backing] reports.
//
// A guest can make such links itself. So a link counts as a stand-in only if its chain ends
// at a file of the same tree; any other is a plain symbolic link.
package l2s

import (
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"proot-distro/internal/rootfs"
)

// Dir is the directory, in the root of a guest, that proot is told to keep files with several names in.
const Dir = ".l2s"

// prefix begins the names of intermediate links and of what they lead to.
const prefix = ".l2s."

// fileSuffix is what a file's name has more than its intermediate link's.
var fileSuffix = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\.\d{4,}$`)
})

// Roots lists the forms in which a directory of the host may stand in link targets: as it
// is given, and free of symbolic links. rel, a slash-separated path below it that need not
// exist, is added to both.
func Roots(dir, rel string) []string {
	roots := []string{path.Join(dir, rel)}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		roots = append(roots, path.Join(real, rel))
	}
	return slices.Compact(roots)
}

// Reroot gives the target that a link of a stand-in has when the tree moves from any of
// the host paths from to the host path to. ok is false for links of other kinds, which
// stay as they are.
func Reroot(target string, from []string, to string) (moved string, ok bool) {
	name, ok := inside(target, from)
	if !ok {
		return "", false
	}
	return to + name, true
}

// inside gives the path in the tree, "/.l2s/.l2s.perl0001", of a target that belongs to a stand-in.
func inside(target string, roots []string) (string, bool) {
	if !strings.HasPrefix(path.Base(target), prefix) || path.Clean(target) != target {
		return "", false
	}
	for _, root := range roots {
		if name, ok := strings.CutPrefix(target, root); ok && strings.HasPrefix(name, "/") {
			return name, true
		}
	}
	return "", false
}

// Tree reads the stand-ins of one root filesystem.
type Tree struct {
	tree  *rootfs.FS
	roots []string
}

// New reads the stand-ins of tree, whose links must be [rootfs.GuestLinks]. It stays valid
// as long as tree is open.
func New(tree *rootfs.FS) *Tree { return &Tree{tree, Roots(tree.Path(), "")} }

// File is what a stand-in means.
type File struct {
	Name string // of the file in the tree, the same one for all its names: "/.l2s/.l2s.perl0001.0002"
	Info rootfs.Info
}

// Resolve tells what a symbolic link with this target means to the guest; ok is false for a
// plain link.
func (t *Tree) Resolve(target string) (file File, ok bool) {
	name, ok := inside(target, t.roots)
	if !ok {
		return File{}, false
	}
	if name, ok = t.next(name); !ok {
		return File{}, false
	}
	info, err := t.tree.Lstat(name)
	if err != nil || info.Mode.IsDir() {
		return File{}, false
	}
	return File{Name: name, Info: info}, true
}

// next gives what the intermediate link at name leads to.
func (t *Tree) next(name string) (file string, ok bool) {
	target, err := t.tree.Readlink(name)
	if err != nil {
		return "", false
	}
	file, ok = inside(target, t.roots)
	return file, ok && name+fileSuffix().FindString(file) == file && file != name
}

// Backing reports whether the entry at a path of the tree is not the guest's but keeps a
// file with several names: an intermediate link, what it leads to, or /.l2s when nothing
// else is in it.
func (t *Tree) Backing(name string) bool {
	name = path.Join("/", name)
	if name == "/"+Dir {
		return t.onlyBacking(name)
	}
	if !strings.HasPrefix(path.Base(name), prefix) {
		return false
	}
	if _, ok := t.next(name); ok {
		return true
	}
	suffix := fileSuffix().FindString(name)
	file, ok := t.next(strings.TrimSuffix(name, suffix))
	return ok && file == name
}

func (t *Tree) onlyBacking(dir string) bool {
	entries, err := t.tree.View(rootfs.NoLinks).ReadDir(dir)
	return err == nil && !slices.ContainsFunc(entries, func(e rootfs.Entry) bool {
		return !t.Backing(path.Join(dir, e.Name))
	})
}
