package layer

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/internal/l2s"
	"proot-distro/internal/rootfs"
)

// Tree is what [Snapshot] saw: enough of every entry to find out later what has changed.
// It takes some 80 bytes an entry.
type Tree struct {
	nodes []node // the root's first; a directory's entries follow one another, sorted by name
	names []byte
}

// node is an entry. A stand-in of a hard link is what it stands for.
//
// The change time, which nobody can set, tells every change of a file. A directory's would
// tell of its entries too, so there the attributes are looked at.
type node struct {
	dev, ino     uint64
	size         int64
	mtime, ctime int64  // nanoseconds
	attrs        uint64 // hash of a directory's extended attributes
	first, count uint32 // a directory's entries
	name         uint32 // offset in names
	mode         uint32 // st_mode
	nameLen      uint8
	linked       bool // has other names
	standIn      bool // see package l2s
}

func (n *node) typ() uint32         { return n.mode & unix.S_IFMT }
func (n *node) isDir() bool         { return n.typ() == unix.S_IFDIR }
func (n *node) isFile() bool        { return n.typ() == unix.S_IFREG }
func (n *node) inode() inode        { return inode{n.dev, n.ino} }
func (t *Tree) root() *node         { return &t.nodes[0] }
func (t *Tree) Len() int            { return len(t.nodes) - 1 } // Len counts the entries.
func (t *Tree) name(n *node) string { return string(t.names[n.name:][:n.nameLen]) }

// children gives a directory's entries, sorted by name.
func (t *Tree) children(n *node) []node { return t.nodes[n.first:][:n.count] }

type inode struct{ dev, ino uint64 }

// Snapshot notes the type, mode, size, times and inode of everything in a tree, and reads no
// file. Entries for which skip, if not nil, is true are left out with all that is in them;
// it is given guest paths, "/usr/bin". Directories that their modes close are opened for it and
// closed again.
func Snapshot(ctx context.Context, root *rootfs.FS, skip func(path string) bool) (*Tree, error) {
	t, newest, err := snapshot(ctx, root, skip)
	if err == nil {
		err = settle(ctx, newest)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// snapshot gives the tree and the latest change time of a file.
func snapshot(ctx context.Context, root *rootfs.FS, skip func(path string) bool) (*Tree, int64, error) {
	s := newScanner(ctx, root, skip)
	s.tree.nodes = append(s.tree.nodes, node{mode: unix.S_IFDIR})
	err := s.dir("/", 0)
	err = errors.Join(err, s.close())
	return &s.tree, s.newest, err
}

// settle waits until the clock of change times has gone past a time that is not long ago: else
// a change made within the same tick could not be told.
func settle(ctx context.Context, newest int64) error {
	const longest = 20 // milliseconds; a tick takes 1 to 10
	for range longest {
		var now unix.Timespec
		err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now)
		if age := now.Nano() - newest; err != nil || age > 0 || age < -longest*1e6 {
			return nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// scanner takes a snapshot.
type scanner struct {
	*opener
	ctx    context.Context
	l2s    *l2s.Tree
	skip   func(path string) bool
	tree   Tree
	newest int64
}

func newScanner(ctx context.Context, root *rootfs.FS, skip func(path string) bool) *scanner {
	return &scanner{ctx: ctx, opener: newOpener(root), l2s: l2s.New(root.View(rootfs.GuestLinks)), skip: skip}
}

// dir notes what is in a directory, whose node has the index self.
func (s *scanner) dir(path string, self uint32) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	d, entries, err := s.readDir(path)
	if isReplaced(err) { // just now
		return nil
	}
	if err != nil {
		return err
	}
	s.tree.nodes[self].attrs = hashAttrs(d)
	first := len(s.tree.nodes)
	for _, e := range entries {
		if err := s.entry(d, path, e); err != nil {
			return err
		}
	}
	count := len(s.tree.nodes) - first
	s.tree.nodes[self].first, s.tree.nodes[self].count = uint32(first), uint32(count)
	for i := first; i < first+count; i++ {
		if n := &s.tree.nodes[i]; n.isDir() {
			if err := s.dir(joinPath(path, s.tree.name(n)), uint32(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *scanner) entry(d *rootfs.Dir, dir string, e rootfs.Entry) error {
	if s.left(dir, e.Name) {
		return nil
	}
	n, err := s.stat(d, dir, e.Name)
	if errors.Is(err, fs.ErrNotExist) { // any more
		return nil
	}
	if err != nil {
		return err
	}
	n.name, n.nameLen = uint32(len(s.tree.names)), uint8(len(e.Name))
	s.tree.names = append(s.tree.names, e.Name...)
	s.tree.nodes = append(s.tree.nodes, n)
	if !n.isDir() {
		s.newest = max(s.newest, n.ctime)
	}
	return nil
}

// stat describes the entry base of d, which is the directory dir.
func (s *scanner) stat(d *rootfs.Dir, dir, base string) (node, error) {
	var st unix.Stat_t
	err := s.try(dir, func() error { return unix.Fstatat(d.Fd(), base, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil {
		return node{}, &fs.PathError{Op: "lstat", Path: joinPath(dir, base), Err: err}
	}
	n := nodeOf(&st)
	if n.typ() != unix.S_IFLNK {
		return n, nil
	}
	target, err := d.Readlink(base)
	if err != nil || !strings.Contains(target, "/"+backingPrefix) {
		return n, nil // if it is gone, packing it will tell
	}
	if file, ok := s.l2s.Resolve(target); ok {
		if d, base, err := s.root.Parent(file.Name); err == nil {
			defer d.Close()
			if unix.Fstatat(d.Fd(), base, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
				n = nodeOf(&st)
				n.linked, n.standIn = true, true
			}
		}
	}
	return n, nil
}

func nodeOf(st *unix.Stat_t) node {
	return node{
		dev: uint64(st.Dev), ino: uint64(st.Ino), mode: uint32(st.Mode), size: st.Size,
		mtime: nanoseconds(st.Mtim), ctime: nanoseconds(st.Ctim),
		linked: st.Nlink > 1 && uint32(st.Mode)&unix.S_IFMT != unix.S_IFDIR,
	}
}

// nanoseconds is the time since 1970, or the nearest that an int64 can tell.
func nanoseconds(ts unix.Timespec) int64 {
	const limit = math.MaxInt64/1_000_000_000 - 1
	sec, nsec := ts.Unix()
	return min(max(sec, -limit), limit)*1e9 + nsec
}

const backingPrefix = ".l2s." // of names that stand-ins lead to

// left reports whether an entry is left out: what the caller skips and what belongs to proot.
func (s *scanner) left(dir, base string) bool {
	switch {
	case dir == "/" && base == l2s.Dir:
		return true
	case strings.HasPrefix(base, backingPrefix) && s.l2s.Backing(joinPath(dir, base)):
		return true
	}
	return s.skip != nil && s.skip(joinPath(dir, base))
}
