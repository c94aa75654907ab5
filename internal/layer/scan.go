package layer

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"proot-distro/internal/l2s"
	"proot-distro/internal/rootfs"
)

// maxScanners bounds the goroutines that look at a tree.
const maxScanners = 4

// scan looks at a tree, with several goroutines, and gives the latest change time of a file too.
func scan(ctx context.Context, root *rootfs.FS, skip func(path string) bool) (*Tree, int64, error) {
	if skip != nil {
		var mu sync.Mutex
		serial := skip
		skip = func(path string) bool {
			mu.Lock()
			defer mu.Unlock()
			return serial(path)
		}
	}
	modes := newModes(root)
	q := newQueue()
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), maxScanners) {
		wg.Go(func() {
			s := newScanner(ctx, root, modes, skip)
			defer s.close()
			for d, ok := q.take(); ok; d, ok = q.take() {
				b, err := s.dir(d.path)
				q.done(d, b, err)
			}
		})
	}
	wg.Wait()
	err := errors.Join(q.err, modes.restore())
	return &q.tree, q.newest, err
}

// withoutStore skips proot's store too: whatever is in it, a layer does not hold it.
func withoutStore(skip func(path string) bool) func(path string) bool {
	return func(path string) bool { return path == "/"+l2s.Dir || skip != nil && skip(path) }
}

// queue hands out the directories to look at, and puts the tree together.
type queue struct {
	mu     sync.Mutex
	more   sync.Cond
	todo   []todo
	busy   int // directories that are being looked at
	err    error
	tree   Tree
	newest int64
}

// todo is a directory to look at, whose node has the index node.
type todo struct {
	path string
	node uint32
}

// listing is what is in a directory. Names are offsets in names, and subdirectories follow later.
type listing struct {
	attrs   uint64 // of the directory
	partial bool   // some of its entries are left out
	nodes   []node
	names   []byte
}

func newQueue() *queue {
	q := &queue{todo: []todo{{path: "/"}}, tree: Tree{nodes: []node{{mode: unix.S_IFDIR}}}}
	q.more.L = &q.mu
	return q
}

// take gives the directory that was found last, and false when there is nothing left to do.
func (q *queue) take() (todo, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.todo) == 0 && q.busy > 0 && q.err == nil {
		q.more.Wait()
	}
	if len(q.todo) == 0 || q.err != nil {
		return todo{}, false
	}
	last := len(q.todo) - 1
	d := q.todo[last]
	q.todo = q.todo[:last]
	q.busy++
	return d, true
}

// done takes what was found in a directory.
func (q *queue) done(d todo, b listing, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.busy--
	if err != nil {
		if q.err == nil {
			q.err = err
		}
		q.more.Broadcast()
		return
	}
	t := &q.tree
	first, names := uint32(len(t.nodes)), uint32(len(t.names))
	self := &t.nodes[d.node]
	self.attrs, self.partial, self.first, self.count = b.attrs, b.partial, first, uint32(len(b.nodes))
	t.nodes = append(t.nodes, b.nodes...)
	t.names = append(t.names, b.names...)
	for i := range t.nodes[first:] {
		n := &t.nodes[first:][i]
		n.name += names
		if n.isDir() {
			q.todo = append(q.todo, todo{joinPath(d.path, t.name(n)), first + uint32(i)})
		} else {
			q.newest = max(q.newest, n.ctime)
		}
	}
	if len(q.todo) > 1 || q.busy == 0 {
		q.more.Broadcast()
	}
}

// scanner looks at entries.
type scanner struct {
	*opener
	ctx  context.Context
	l2s  *l2s.Tree
	skip func(path string) bool
	listing
}

func newScanner(ctx context.Context, root *rootfs.FS, m *modes, skip func(path string) bool) *scanner {
	return &scanner{ctx: ctx, opener: newOpener(m), l2s: l2s.New(root.View(rootfs.GuestLinks)), skip: skip}
}

// dir looks at a directory. The result is valid until the next call.
func (s *scanner) dir(path string) (listing, error) {
	s.listing = listing{nodes: s.nodes[:0], names: s.names[:0]}
	if err := s.ctx.Err(); err != nil {
		return listing{}, err
	}
	d, entries, err := s.readDir(path)
	if isReplaced(err) { // just now
		return listing{}, nil
	}
	if err != nil {
		return listing{}, err
	}
	s.attrs = hashAttrs(d)
	for _, e := range entries {
		if s.left(path, e.Name) {
			s.partial = true
			continue
		}
		n, err := s.stat(d, path, e.Name)
		if errors.Is(err, fs.ErrNotExist) { // any more
			continue
		}
		if err != nil {
			return listing{}, err
		}
		n.name, n.nameLen = uint32(len(s.names)), uint8(len(e.Name))
		s.names = append(s.names, e.Name...)
		s.nodes = append(s.nodes, n)
	}
	return s.listing, nil
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
	if err != nil {
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
		rdev:   uint64(st.Rdev), owner: [2]uint32{st.Uid, st.Gid},
	}
}

// nanoseconds is the time since 1970, or the nearest that an int64 can tell.
func nanoseconds(ts unix.Timespec) int64 {
	const limit = math.MaxInt64/1_000_000_000 - 1
	sec, nsec := ts.Unix()
	return min(max(sec, -limit), limit)*1e9 + nsec
}

// left reports whether an entry is left out: what the caller skips, and what keeps stand-ins; not
// what a guest has put beside that.
func (s *scanner) left(dir, base string) bool {
	path := joinPath(dir, base)
	return s.l2s.Backing(path) || s.skip != nil && s.skip(path)
}
