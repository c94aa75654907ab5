package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"proot-distro/internal/l2s"
	"proot-distro/internal/overlay"
	"proot-distro/internal/rootfs"
)

// DiffUpper is [Diff] for a tree that is an overlay: it writes what its upper directory changes in the tree
// below, and looks at no more than that. The overlay need not be mounted any more.
//
// The layer is that of Diff, but for what overlays do themselves: a directory that is renamed is a copy, and one of
// several hard links that is written to parts from the others. And it lacks files that system calls have been
// made on without any effect, as by chmod(1) to the mode that a file has.
func DiffUpper(ctx context.Context, upper, below *rootfs.FS, w io.Writer, o DiffOptions) (DiffStats, error) {
	s := newUpperScan(ctx, upper, below, o)
	err := s.dir("/", upperDir{covers: true})
	if err := errors.Join(err, s.close()); err != nil {
		return DiffStats{}, err
	}
	p := newPacker(ctx, upper, tar.NewWriter(w), o)
	err = p.run(compare(&s.before, &s.after, o))
	return p.stats, errors.Join(err, p.restore())
}

// upperScan makes two trees of an upper directory and what lies below: as it was and as it is. Only directories that
// the upper one has too are looked into.
type upperScan struct {
	ctx           context.Context
	o             DiffOptions
	upper, below  *opener
	before, after Tree
}

func newUpperScan(ctx context.Context, upper, below *rootfs.FS, o DiffOptions) *upperScan {
	root := node{mode: unix.S_IFDIR}
	return &upperScan{
		ctx: ctx, o: o, upper: newOpener(newModes(upper)), below: newOpener(newModes(below)),
		before: Tree{nodes: []node{root}}, after: Tree{nodes: []node{root}},
	}
}

func (s *upperScan) close() error {
	s.upper.close()
	s.below.close()
	return errors.Join(s.upper.restore(), s.below.restore())
}

// found is an entry of a directory as it was and as it is; nil for none.
type found struct {
	was, is *node
	upper   bool // the upper tree has an entry of that name, were it a deletion
}

// upperDir is a directory of the upper tree.
type upperDir struct {
	was, is uint32 // the indices of its nodes; was only if covers
	covers  bool   // there is a directory below it
	hides   bool   // nothing of which can be seen
}

// dir looks into a directory.
func (s *upperScan) dir(path string, d upperDir) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	d.hides = d.hides || s.opaque(path)
	entries, err := s.entries(path, d)
	if err != nil {
		return err
	}
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(entries)), func(name string) bool {
		out := path == "/" && name == l2s.Dir || s.o.Skip != nil && s.o.Skip(joinPath(path, name))
		s.after.nodes[d.is].partial = s.after.nodes[d.is].partial || out
		return out
	})
	for _, name := range names {
		if err := s.compare(joinPath(path, name), entries[name]); err != nil {
			return err
		}
	}
	wasAt, isAt := uint32(0), s.after.add(d.is, names, func(name string) *node { return entries[name].is })
	if d.covers {
		wasAt = s.before.add(d.was, names, func(name string) *node { return entries[name].was })
	}
	for _, name := range names {
		e := entries[name]
		if e.upper && e.is != nil && e.is.isDir() {
			sub := upperDir{wasAt, isAt, e.was != nil && e.was.isDir(), d.hides}
			if err := s.dir(joinPath(path, name), sub); err != nil {
				return err
			}
		}
		if e.was != nil {
			wasAt++
		}
		if e.is != nil {
			isAt++
		}
	}
	return nil
}

// entries lists a directory as it was and as it is.
func (s *upperScan) entries(path string, d upperDir) (map[string]*found, error) {
	entries := map[string]*found{}
	if d.covers {
		err := s.list(s.below, path, func(name string, n *node) {
			entries[name] = &found{was: n}
			if !d.hides {
				entries[name].is = n
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return entries, s.list(s.upper, path, func(name string, n *node) {
		if entries[name] == nil {
			entries[name] = &found{}
		}
		e := entries[name]
		e.is, e.upper = n, true
		if isDeletion(n) {
			e.is = nil
		}
	})
}

// compare completes the nodes of a directory, and takes the node as it was for a file that has not changed.
func (s *upperScan) compare(path string, e *found) error {
	switch {
	case !e.upper || e.is == nil:
		return nil
	case !e.is.isDir():
		if e.was != nil && s.untouched(path, e.was, e.is) {
			e.is = e.was
		}
		return nil
	}
	d, err := s.upper.dirAt(path)
	if err != nil {
		return err
	}
	e.is.attrs = hashAttrs(d)
	if e.was == nil || !e.was.isDir() {
		return nil
	}
	if d, err = s.below.dirAt(path); err != nil {
		return err
	}
	e.was.attrs = hashAttrs(d)
	return nil
}

// add gives a directory its entries, those of names that have a node, and gives the index of the first.
func (t *Tree) add(dir uint32, names []string, node func(name string) *node) (first uint32) {
	first = uint32(len(t.nodes))
	for _, name := range names {
		if n := node(name); n != nil {
			n := *n
			n.name, n.nameLen = uint32(len(t.names)), uint8(len(name))
			t.names = append(t.names, name...)
			t.nodes = append(t.nodes, n)
		}
	}
	t.nodes[dir].first, t.nodes[dir].count = first, uint32(len(t.nodes))-first
	return first
}

// list describes the entries of a directory.
func (s *upperScan) list(o *opener, path string, add func(name string, n *node)) error {
	d, entries, err := o.readDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		var st unix.Stat_t
		if err := unix.Fstatat(d.Fd(), e.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &fs.PathError{Op: "lstat", Path: joinPath(path, e.Name), Err: err}
		}
		n := nodeOf(&st)
		add(e.Name, &n)
	}
	return nil
}

// isDeletion tells overlay's whiteouts.
func isDeletion(n *node) bool { return n.typ() == unix.S_IFCHR && n.rdev == 0 }

// opaque reports whether a directory of the upper tree hides what is below it.
func (s *upperScan) opaque(path string) bool {
	d, err := s.upper.dirAt(path)
	if err != nil {
		return false // and the next step fails
	}
	var value [2]byte
	n, err := unix.Getxattr(openPath(uintptr(d.Fd())), overlay.Opaque, value[:])
	return err == nil && n == 1 && value[0] == 'y'
}

// untouched reports whether an entry was merely copied to the upper tree, as by being opened for writing.
func (s *upperScan) untouched(name string, was, is *node) bool {
	if was.mode != is.mode || was.size != is.size || was.mtime != is.mtime || was.owner != is.owner || is.linked {
		return false
	}
	if s.o.Given != nil && s.o.Given(name) {
		return false
	}
	switch is.typ() {
	case unix.S_IFLNK:
		return s.sameLink(name)
	case unix.S_IFREG:
		same, err := s.sameFile(name)
		return err == nil && same
	}
	return false
}

func (s *upperScan) sameLink(name string) bool {
	below, err := s.below.readlink(name)
	if err != nil {
		return false
	}
	upper, err := s.upper.readlink(name)
	return err == nil && upper == below
}

func (s *upperScan) sameFile(name string) (bool, error) {
	is, err := s.upper.openAt(name)
	if err != nil {
		return false, err
	}
	defer is.Close()
	if _, err := unix.Getxattr(openPath(is.Fd()), overlay.Origin, nil); err != nil {
		return false, err // it is new, whatever it has
	}
	was, err := s.below.openAt(name)
	if err != nil {
		return false, err
	}
	defer was.Close()
	if !maps.Equal(xattrs(openPath(was.Fd())), xattrs(openPath(is.Fd()))) {
		return false, nil
	}
	return sameContent(s.ctx, was, is)
}

func sameContent(ctx context.Context, a, b io.Reader) (bool, error) {
	var one, other [32 << 10]byte
	for ctx.Err() == nil {
		n, err := io.ReadFull(a, one[:])
		m, otherErr := io.ReadFull(b, other[:])
		switch {
		case !bytes.Equal(one[:n], other[:m]):
			return false, nil
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return true, nil
		}
		if err := errors.Join(err, otherErr); err != nil {
			return false, err
		}
	}
	return false, ctx.Err()
}
