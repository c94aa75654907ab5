package layer

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"time"

	"proot-distro/internal/rootfs"
)

// DiffOptions say what goes into a layer.
type DiffOptions struct {
	// Skip leaves entries out, with all that is in them; give the one that Snapshot got.
	// Guest paths, "/usr/bin". May be nil.
	Skip func(path string) bool
	// Epoch is SOURCE_DATE_EPOCH: later modification times become this one. May be nil.
	Epoch *time.Time
	// Given tells of an entry that was touched and has not changed otherwise whether its owner has. May
	// be nil.
	Given func(path string) bool
	// Owner tells the owner of an entry; nil means root.
	Owner func(path string) (uid, gid int)
	// OnSkip is told of each entry that a layer cannot hold: sockets, devices, names
	// reserved for whiteouts. May be nil.
	OnSkip func(path, reason string)
}

// DiffStats counts what went into a layer.
type DiffStats struct {
	Entries int   // whiteouts and parents included; 0 when nothing has changed
	Bytes   int64 // of file contents
	// After is the tree as it was packed, the next Diff's before.
	After *Tree
}

// ErrChanging means that somebody writes to what is being packed.
var ErrChanging = errors.New("changed while it was being packed")

// Diff writes what has changed in a tree since before, nil meaning that it was empty, as an
// uncompressed layer.
//
// An entry has changed if its type, mode, size, modification or change time or inode has, a
// directory only if its mode or its attributes have. Changed entries come with their parents
// and, of a hard link, all names. A directory of which entries are gone and no other is left as it was
// is opaque and packed whole. Times are whole seconds, and nothing in the stream depends on the machine,
// the user or the clock. The root itself is never packed.
//
// An error is [ErrChanging] if an entry changes meanwhile.
func Diff(ctx context.Context, root *rootfs.FS, before *Tree, w io.Writer, o DiffOptions) (DiffStats, error) {
	after, newest, err := scan(ctx, root, withoutStore(o.Skip))
	if err != nil {
		return DiffStats{}, err
	}
	p := newPacker(ctx, root, tar.NewWriter(w), o)
	p.newest = newest
	err = p.run(compare(before, after, o))
	if err := errors.Join(err, p.restore()); err != nil {
		return DiffStats{}, err
	}
	p.stats.After = after
	return p.stats, settle(ctx, p.newest)
}
