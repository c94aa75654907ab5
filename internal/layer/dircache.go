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
}

type cachedDir struct {
	*rootfs.Dir
	used int
}

func newDirCache(root *rootfs.FS) *dirCache {
	return &dirCache{root: root, dirs: make(map[string]*cachedDir, maxDirs)}
}

// open gives a directory that is valid until closeStale is called. name is clean.
// Where a directory on the way is missing, create is called to make it, if given.
func (c *dirCache) open(name string, create func(d *rootfs.Dir, base string) error) (*rootfs.Dir, error) {
	c.clock++
	if d := c.dirs[name]; d != nil {
		d.used = c.clock
		return d.Dir, nil
	}
	d, rest, err := c.nearest(name)
	if err != nil {
		return nil, err
	}
	owned := len(rest) == len(name)
	for rest != "" {
		base, tail, _ := strings.Cut(rest, "/")
		rest = tail
		next, err := d.OpenDir(base)
		if errors.Is(err, fs.ErrNotExist) && create != nil {
			if err = create(d, base); err == nil {
				next, err = d.OpenDir(base)
			}
		}
		if errors.Is(err, rootfs.ErrUnsafe) || errors.Is(err, fs.ErrExist) {
			next, err = c.openLink(strings.TrimSuffix(name[:len(name)-len(rest)], "/"), create != nil)
		}
		if owned {
			d.Close()
		}
		if err != nil {
			return nil, err
		}
		d, owned = next, true
	}
	if len(c.dirs) >= maxDirs {
		c.evict()
	}
	c.dirs[name] = &cachedDir{d, c.clock}
	return d, nil
}

// nearest gives the nearest directory at hand on the way to name, at worst a new
// handle of the root, and the way from there.
func (c *dirCache) nearest(name string) (d *rootfs.Dir, rest string, err error) {
	for dir := name; dir != ""; {
		dir, _ = splitName(dir)
		if d := c.dirs[dir]; d != nil && dir != "" {
			d.used = c.clock
			return d.Dir, name[len(dir)+1:], nil
		}
	}
	d, err = c.root.OpenDir("")
	return d, name, err
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

// evict forgets the directory that was not used for the longest time.
func (c *dirCache) evict() {
	var oldest string
	used := c.clock + 1
	for name, d := range c.dirs {
		if d.used < used {
			oldest, used = name, d.used
		}
	}
	c.stale = append(c.stale, c.dirs[oldest].Dir)
	delete(c.dirs, oldest)
}

// forget drops all: names may mean other directories now.
func (c *dirCache) forget() {
	for _, d := range c.dirs {
		c.stale = append(c.stale, d.Dir)
	}
	clear(c.dirs)
}

func (c *dirCache) closeStale() {
	for _, d := range c.stale {
		d.Close()
	}
	c.stale = c.stale[:0]
}

func (c *dirCache) close() {
	c.forget()
	c.closeStale()
}
