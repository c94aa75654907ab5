package layer

import (
	"context"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

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
	rdev         uint64 // of a device
	owner        [2]uint32
	nameLen      uint8
	linked       bool // has other names
	standIn      bool // see package l2s
	partial      bool // a directory of which entries are left out
}

func (n *node) typ() uint32         { return n.mode & unix.S_IFMT }
func (n *node) isDir() bool         { return n.typ() == unix.S_IFDIR }
func (n *node) isFile() bool        { return n.typ() == unix.S_IFREG }
func (n *node) inode() inode        { return inode{n.dev, n.ino} }
func (t *Tree) root() *node         { return &t.nodes[0] }
func (t *Tree) name(n *node) string { return string(t.names[n.name:][:n.nameLen]) }

// children gives a directory's entries, sorted by name.
func (t *Tree) children(n *node) []node { return t.nodes[n.first:][:n.count] }

type inode struct{ dev, ino uint64 }

// Has reports whether a guest path without symbolic links was in the tree.
func (t *Tree) Has(name string) bool {
	at := t.root()
	for component := range strings.SplitSeq(strings.Trim(name, "/"), "/") {
		if component == "" {
			continue
		}
		entries := t.children(at)
		i, found := slices.BinarySearchFunc(entries, component, func(n node, name string) int { return strings.Compare(t.name(&n), name) })
		if !found {
			return false
		}
		at = &entries[i]
	}
	return true
}

// Snapshot notes the type, mode, size, times and inode of everything in a tree, and reads no
// file. Entries for which skip, if not nil, is true are left out with all that is in them;
// it is given guest paths, "/usr/bin". Directories that their modes close are opened for it and
// closed again.
func Snapshot(ctx context.Context, root *rootfs.FS, skip func(path string) bool) (*Tree, error) {
	t, newest, err := scan(ctx, root, withoutStore(skip))
	if err == nil {
		err = settle(ctx, newest)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
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
