package layer

import (
	"errors"
	"hash/maphash"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"proot-distro/internal/rootfs"
)

// Names with a meaning of their own in a layer, see the OCI image specification.
const (
	whiteoutPrefix = ".wh."
	reservedPrefix = ".wh..wh." // of AUFS itself
	opaqueMarker   = ".wh..wh..opq"
)

// whiteout applies an entry with ".wh." in its name.
func (a *applier) whiteout(name string) error {
	dir, base := splitName(name)
	hidden, isWhiteout := strings.CutPrefix(base, whiteoutPrefix)
	switch {
	case strings.Contains("/"+dir, "/"+whiteoutPrefix), !isWhiteout,
		strings.HasPrefix(base, reservedPrefix) && base != opaqueMarker,
		hidden == "", hidden == ".", hidden == "..":
		a.skip(name, "reserved name")
		return nil
	}
	a.stats.Entries++
	if base == opaqueMarker {
		return a.opaque(dir)
	}
	return a.in(dir, func(d *rootfs.Dir) error { return a.hide(place{d, hidden}) })
}

// in calls f with a directory, or does nothing where there is none.
func (a *applier) in(dir string, f func(*rootfs.Dir) error) error {
	d, err := a.open(dir, nil)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	return f(d)
}

// opaque hides what lower layers have in a directory; a link to one has nothing.
func (a *applier) opaque(name string) error {
	if name == "" {
		return a.in("", a.hideContent)
	}
	dir, base := splitName(name)
	return a.in(dir, func(d *rootfs.Dir) error {
		p := place{d, base}
		if info, err := d.Lstat(base); err != nil || !info.Mode.IsDir() {
			return nil
		}
		a.written.addWithParents(p.path())
		return a.hide(p)
	})
}

// hide removes an entry, or what lower layers have in it if it is a directory
// that this layer brings as well.
func (a *applier) hide(p place) error {
	if !a.written.has(p.path()) {
		return a.remove(p)
	}
	d, err := p.dir.OpenDir(p.base)
	if isReplaced(err) {
		return nil // a file of this layer
	}
	if err != nil {
		return err
	}
	defer d.Close()
	return a.hideContent(d)
}

func (a *applier) hideContent(d *rootfs.Dir) error {
	entries, err := d.ReadDir()
	if errors.Is(err, unix.EACCES) && a.unlock(d.Path()) {
		entries, err = d.ReadDir()
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := a.hide(place{d, entry.Name}); err != nil {
			return err
		}
	}
	return nil
}

// pathSet is a set of paths that takes few bytes for each: of their hashes, with a
// seed that no archive can know.
type pathSet struct {
	seed   maphash.Seed
	hashes map[uint64]struct{}
}

func newPathSet() *pathSet {
	return &pathSet{seed: maphash.MakeSeed(), hashes: map[uint64]struct{}{}}
}

func (s *pathSet) add(path string) { s.hashes[maphash.String(s.seed, path)] = struct{}{} }

func (s *pathSet) has(path string) bool {
	_, ok := s.hashes[maphash.String(s.seed, path)]
	return ok
}

// addWithParents adds a path and the directories that it lies in.
func (s *pathSet) addWithParents(path string) {
	for path != "" && path != "/" && !s.has(path) {
		s.add(path)
		path = path[:strings.LastIndexByte(path, '/')]
	}
}
