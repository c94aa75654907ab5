package layer

import (
	"errors"
	"io/fs"
	"strings"

	"proot-distro/internal/rootfs"
)

// maxDirs bounds the directories that are held open.
const maxDirs = 64

// dirCache holds directories open, by the names that entries have for them, since
// the next entries are most likely in the same ones.
type dirCache struct {
	root  *rootfs.FS
	dirs  map[string]*cachedDir
	stale []*rootfs.Dir // forgotten, but maybe in use for the current entry
	clock int
	entry int // the clock when the current entry began
}

type cachedDir struct {
	*rootfs.Dir
	used int
	lent int // when it was last given away
}

func newDirCache(root *rootfs.FS) *dirCache {
	return &dirCache{root: root, dirs: make(map[string]*cachedDir, maxDirs)}
}

// begin begins an entry: directories that were given away for others may be closed.
func (c *dirCache) begin() {
	c.entry = c.clock + 1
	for _, d := range c.stale {
		d.Close()
	}
	c.stale = c.stale[:0]
}

// open gives a directory that is valid until the next call of begin. name is clean.
// Where a directory on the way is missing, create is called to make it, if given.
func (c *dirCache) open(name string, create func(d *rootfs.Dir, base string) error) (*rootfs.Dir, error) {
	c.clock++
	d, rest, err := c.nearest(name)
	for err == nil && rest != "" {
		base, tail, _ := strings.Cut(rest, "/")
		rest = tail
		var next *rootfs.Dir
		next, err = d.OpenDir(base)
		if errors.Is(err, fs.ErrNotExist) && create != nil {
			if err = create(d.Dir, base); err == nil {
				next, err = d.OpenDir(base)
			}
		}
		path := strings.TrimSuffix(name[:len(name)-len(rest)], "/")
		if errors.Is(err, rootfs.ErrUnsafe) || errors.Is(err, fs.ErrExist) {
			next, err = c.openLink(path, create != nil)
		}
		if err == nil {
			d = c.add(path, next)
		}
	}
	if err != nil {
		return nil, err
	}
	d.lent = c.clock
	return d.Dir, nil
}

// nearest gives the nearest directory at hand on the way to name, at worst the
// root, and the way from there.
func (c *dirCache) nearest(name string) (d *cachedDir, rest string, err error) {
	for dir := name; ; dir, _ = splitName(dir) {
		if d := c.dirs[dir]; d != nil {
			d.used = c.clock
			return d, strings.TrimPrefix(name[len(dir):], "/"), nil
		}
		if dir == "" {
			break
		}
	}
	root, err := c.root.OpenDir("")
	if err != nil {
		return nil, "", err
	}
	return c.add("", root), name, nil
}

// add keeps a directory, in the place of the one that was not used for the longest
// time, except for those in use.
func (c *dirCache) add(name string, dir *rootfs.Dir) *cachedDir {
	c.clock++
	if len(c.dirs) >= maxDirs {
		oldest, used := "", c.clock
		for name, d := range c.dirs {
			if d.used < used && d.lent < c.entry {
				oldest, used = name, d.used
			}
		}
		c.dirs[oldest].Close()
		delete(c.dirs, oldest)
	}
	d := &cachedDir{Dir: dir, used: c.clock}
	c.dirs[name] = d
	return d
}

// openLink opens a directory that is a link to one. One that leads to nothing is
// filled in if create says so.
func (c *dirCache) openLink(name string, create bool) (*rootfs.Dir, error) {
	d, err := c.root.OpenDir(name)
	if create && errors.Is(err, fs.ErrNotExist) {
		if err := c.root.MkdirAll(name, 0o755); err != nil {
			return nil, err
		}
		return c.root.OpenDir(name)
	}
	return d, err
}

// forget drops all: names may mean other directories now.
func (c *dirCache) forget() {
	for _, d := range c.dirs {
		c.stale = append(c.stale, d.Dir)
	}
	clear(c.dirs)
}

func (c *dirCache) close() {
	c.forget()
	c.begin()
}
