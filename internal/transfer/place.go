package transfer

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

// place is an end that was found: a name in an open directory.
type place struct {
	end    End
	dir    *rootfs.Dir
	base   string // empty when dir is meant itself, the root of its tree
	exists bool
	info   rootfs.Info // when it exists
	real   string      // the path in its tree, free of links but maybe the last
}

func (p *place) close() {
	if p.dir != nil {
		p.dir.Close()
	}
}

// tree opens the tree of a place; that of the host is to be closed.
func (p *place) tree() (*rootfs.FS, error) {
	if p.end.Root != nil {
		return p.end.Root, nil
	}
	return rootfs.Open("/", rootfs.NoLinks)
}

// String names the place without links.
func (p *place) String() string { return p.end.at(p.real) }

// slashed reports whether a path ends so that it can only mean a directory.
func slashed(name string) bool {
	return strings.HasSuffix(name, "/") || dotted(name)
}

// dotted reports whether the last component of a path is "." or "..".
func dotted(name string) bool {
	last := path.Base(name)
	return last == "." || last == ".."
}

// find opens the place of an end, which need not exist but whose directory must. A
// link in the last place is followed when follow is set; one that leads nowhere
// is an error.
func find(end End, follow bool) (*place, error) {
	if end.Path == "" || strings.IndexByte(end.Path, 0) >= 0 {
		return nil, fmt.Errorf("%q is not a path", end.Path)
	}
	tree, name, err := end.resolve(follow || slashed(end.Path))
	if err != nil {
		return nil, explain(end, err)
	}
	if end.Root == nil {
		defer tree.Close()
	}
	p := &place{end: end, real: name}
	if path.Clean("/"+name) == "/" {
		p.dir, err = tree.OpenDir("/")
	} else {
		p.dir, p.base, err = tree.Parent(name)
	}
	if err != nil {
		return nil, explain(end, err)
	}
	p.real = path.Join(p.dir.Path(), p.base)
	if p.base == "" {
		p.info, err = tree.Stat("/")
	} else {
		p.info, err = p.dir.Lstat(p.base)
	}
	switch {
	case err == nil:
		p.exists = true
	case !errors.Is(err, fs.ErrNotExist):
		p.close()
		return nil, explain(end, err)
	}
	return p, nil
}

// resolve gives the tree of an end and the name in it. What leads nowhere keeps
// its name: it may be new, or a link whose meaning the caller knows.
func (e End) resolve(follow bool) (tree *rootfs.FS, name string, err error) {
	if e.Root == nil {
		if name, err = resolveHost(e.Path, follow); err == nil {
			tree, err = rootfs.Open("/", rootfs.NoLinks)
		}
		return tree, name, err
	}
	if follow {
		name, err = e.Root.Resolve(e.Path)
	}
	switch {
	case !follow:
		name = e.Path
	case errors.Is(err, fs.ErrNotExist):
		name, err = e.lastLink(e.Path), nil
	}
	return e.Root, name, err
}

// resolveHost is resolve by the host's rules, and gives an absolute path.
func resolveHost(name string, follow bool) (real string, err error) {
	if follow {
		real, err = filepath.EvalSymlinks(name)
	}
	if !follow || errors.Is(err, fs.ErrNotExist) {
		dir, base := filepath.Split(strings.TrimRight(name, "/"))
		if base == "" {
			return "/", nil
		}
		if dir == "" {
			dir = "."
		}
		real, err = filepath.EvalSymlinks(dir)
		real = filepath.Join(real, base)
	}
	if err != nil {
		return "", err
	}
	return filepath.Abs(real)
}

// explain turns the failure to find an end into a sentence.
func explain(end End, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s does not exist: there is no directory %s", end, end.at(path.Dir(strings.TrimRight(end.Path, "/"))))
	case errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%s does not exist: a part of the path is not a directory", end)
	case errors.Is(err, unix.ELOOP):
		return fmt.Errorf("%s leads in a circle: too many symbolic links", end)
	}
	return fmt.Errorf("open %s: %w", end, report.Cause(err))
}

// same reports whether two places are the same file.
func same(a, b *place) bool {
	return a.exists && b.exists && a.info.Dev == b.info.Dev && a.info.Ino == b.info.Ino
}

// within reports whether dir lies in the directory with this inode, or is it. It climbs
// by the real "..", across the root of a container too: it only looks.
func within(dir *rootfs.Dir, info rootfs.Info) (bool, error) {
	fd, err := unix.Openat(dir.Fd(), ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer func() { unix.Close(fd) }()
	var last unix.Stat_t
	for {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return false, err
		}
		if uint64(st.Dev) == info.Dev && uint64(st.Ino) == info.Ino {
			return true, nil
		}
		if st.Dev == last.Dev && st.Ino == last.Ino {
			return false, nil // the root of the host, which is its own parent
		}
		last = st
		up, err := unix.Openat(fd, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return false, nil // not to be seen from here, so not where we came from
		}
		unix.Close(fd)
		fd = up
	}
}
