package layer

import (
	"cmp"
	"strings"

	"golang.org/x/sys/unix"
)

// change is an entry of the layer to be.
type change struct {
	path string // of the entry, or of what a whiteout or an opaque marker hides
	kind changeKind
	node *node // of an entry
}

type changeKind int

const (
	isEntry changeKind = iota
	isWhiteout
	isOpaque
)

// unfit is an entry that a layer cannot hold.
type unfit struct{ path, reason string }

// comparison finds what has changed between two trees. Directories come before what is in
// them, entries in the order of their names.
type comparison struct {
	before, after *Tree
	skip          func(path string) bool
	given         func(path string) bool // DiffOptions.Given
	changes       []change
	unfit         []unfit

	// Of files with several names: those with a changed name, and those with one that is not.
	changed, unchanged map[inode]bool
	whole              map[inode]bool // to be packed under all names
}

// compare compares trees; before may be nil.
func compare(before, after *Tree, o DiffOptions) *comparison {
	if before == nil {
		before = &Tree{nodes: []node{{}}}
	}
	c := &comparison{before: before, after: after, skip: o.Skip, given: o.Given}
	c.run()
	whole := map[inode]bool{}
	for file := range c.changed {
		if c.unchanged[file] {
			whole[file] = true
		}
	}
	if len(whole) > 0 { // a directory with one of the names was moved
		c.whole = whole
		c.run()
	}
	return c
}

func (c *comparison) run() {
	c.changes, c.unfit = nil, nil
	c.changed, c.unchanged = map[inode]bool{}, map[inode]bool{}
	c.content("/", c.before.root(), c.after.root())
}

// content compares what is in two directories; before is nil for none.
func (c *comparison) content(dir string, before, after *node) {
	var old []node
	if before != nil {
		old = c.before.children(before)
	}
	now := c.after.children(after)
	for len(old) > 0 || len(now) > 0 {
		var was, is *node
		order := 0
		switch {
		case len(old) == 0:
			order = 1
		case len(now) == 0:
			order = -1
		default:
			order = cmp.Compare(c.before.name(&old[0]), c.after.name(&now[0]))
		}
		name := ""
		if order <= 0 {
			was, old = &old[0], old[1:]
			name = c.before.name(was)
		}
		if order >= 0 {
			is, now = &now[0], now[1:]
			name = c.after.name(is)
		}
		c.entry(joinPath(dir, name), was, is)
	}
}

// entry compares an entry; one of the nodes may be nil.
func (c *comparison) entry(path string, was, is *node) {
	if is != nil {
		if reason := unfitReason(path, is); reason != "" {
			if was == nil || !is.same(was) {
				c.unfit = append(c.unfit, unfit{path, reason})
			}
			is = nil
		}
	}
	if was != nil && unfitReason(path, was) != "" {
		was = nil
	}
	switch {
	case is == nil && was == nil:
	case is == nil:
		if c.skip == nil || !c.skip(path) {
			c.changes = append(c.changes, change{path: path, kind: isWhiteout})
		}
	case is.isDir():
		c.dir(path, was, is)
	default:
		c.file(path, was, is)
	}
}

func (c *comparison) dir(path string, was, is *node) {
	if was != nil && !was.isDir() {
		was = nil
	}
	start := len(c.changes)
	c.changes = append(c.changes, change{path: path, node: is})
	switch {
	case was == nil:
		c.content(path, nil, is)
		return
	case c.replaced(was, is):
		c.changes = append(c.changes, change{path: path, kind: isOpaque})
		c.content(path, nil, is)
		return
	}
	c.content(path, was, is)
	if len(c.changes) == start+1 && was.sameDir(is) && !c.givenAway(path, was, is) {
		c.changes = c.changes[:start]
	}
}

// givenAway reports whether a directory that was touched has another owner, though not on disk.
func (c *comparison) givenAway(path string, was, is *node) bool {
	touched := was.ctime != is.ctime || was.inode() != is.inode()
	return touched && c.given != nil && c.given(path)
}

// replaced reports whether a directory stands in the place of another: entries of it are gone, and none is left as
// it was. Whether it is the same inode is no matter, since the numbers are used again as chance has it.
func (c *comparison) replaced(was, is *node) bool {
	if is.partial {
		return false
	}
	both := 0
	c.pairs(was, is, func(*node, *node) bool { both++; return true })
	return both < int(was.count) && !c.survives(was, is)
}

// survives reports whether anything in a directory is left as it was.
func (c *comparison) survives(was, is *node) bool {
	if is.partial {
		return true
	}
	found := false
	c.pairs(was, is, func(was, is *node) bool {
		switch {
		case was.typ() != is.typ() || unfitReason(c.after.name(is), is) != "":
		case !is.isDir():
			found = is.same(was)
		case was.count == 0:
			found = was.sameDir(is)
		default:
			found = c.survives(was, is)
		}
		return !found
	})
	return found
}

// pairs calls f with the entries of the same name in two directories, until it returns false.
func (c *comparison) pairs(was, is *node, f func(was, is *node) bool) {
	old, now := c.before.children(was), c.after.children(is)
	for len(old) > 0 && len(now) > 0 {
		switch order := cmp.Compare(c.before.name(&old[0]), c.after.name(&now[0])); {
		case order < 0:
			old = old[1:]
		case order > 0:
			now = now[1:]
		case !f(&old[0], &now[0]):
			return
		default:
			old, now = old[1:], now[1:]
		}
	}
}

func (c *comparison) file(path string, was, is *node) {
	changed := was == nil || !is.same(was) || c.whole[is.inode()]
	if changed {
		c.changes = append(c.changes, change{path: path, node: is})
	}
	if is.linked && changed {
		c.changed[is.inode()] = true
	} else if is.linked {
		c.unchanged[is.inode()] = true
	}
}

// sameDir reports whether a directory, not counting its entries, is as another one was.
func (n *node) sameDir(is *node) bool {
	return n.mode == is.mode && n.attrs == is.attrs && n.owner == is.owner
}

// same reports whether a file or a link is the one that it was.
func (n *node) same(was *node) bool {
	return n.inode() == was.inode() && n.mode == was.mode && n.size == was.size &&
		n.mtime == was.mtime && n.ctime == was.ctime && n.standIn == was.standIn
}

// unfitReason says why a layer cannot hold an entry, "" if it can.
func unfitReason(path string, n *node) string {
	if strings.HasPrefix(path[strings.LastIndexByte(path, '/')+1:], whiteoutPrefix) {
		return "name reserved for whiteouts"
	}
	switch n.mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK:
		return ""
	case unix.S_IFIFO:
		return "FIFO"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "device node"
}
