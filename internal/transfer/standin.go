package transfer

import (
	"errors"
	"io/fs"
	"path"
	"strings"

	"proot-distro/internal/l2s"
	"proot-distro/internal/rootfs"
)

// standIns reads the stand-ins of an end; nil for the host, which has none.
func (e End) standIns() *l2s.Tree {
	if e.Root == nil {
		return nil
	}
	return l2s.New(e.Root)
}

// standIn reports whether a place is a link that stands in for a file.
func (p *place) standIn() bool {
	if p.end.Root == nil || p.info.Mode&fs.ModeSymlink == 0 {
		return false
	}
	target, err := p.dir.Readlink(p.base)
	if err != nil {
		return false
	}
	_, ok := p.end.standIns().Resolve(target)
	return ok
}

// lastLink follows links that lead nowhere for the guest's tree, up to one that
// stands in for a file.
func (e End) lastLink(name string) string {
	first := name
	for range 40 { // as many as Linux follows
		dir, base, err := e.Root.Parent(name)
		if err != nil {
			break
		}
		target, err := dir.Readlink(base)
		at := dir.Path()
		dir.Close()
		if err != nil {
			break
		}
		if _, ok := e.standIns().Resolve(target); ok {
			return name
		}
		if name = target; !path.IsAbs(target) {
			name = at + "/" + target
		}
	}
	return first
}

// standIn gives the file of the source that a link stands in for. A clone keeps
// stand-ins as they are.
func (p *pass) standIn(target string) (name string, ok bool) {
	if p.faithful || p.fromLinks == nil {
		return "", false
	}
	file, ok := p.fromLinks.Resolve(target)
	return file.Name, ok
}

// hidden tells entries that only serve stand-ins.
func (p *pass) hidden(dir *rootfs.Dir, name string) bool {
	return !p.faithful && isBacking(p.fromLinks, dir, name)
}

// kept tells entries of the destination that its stand-ins need.
func (p *pass) kept(dir *rootfs.Dir, name string) bool { return isBacking(p.toLinks, dir, name) }

func isBacking(t *l2s.Tree, dir *rootfs.Dir, name string) bool {
	return t != nil && strings.HasPrefix(name, l2s.Dir) && t.Backing(path.Join(dir.Path(), name))
}

// leavesStandIns reports whether a rename could take stand-ins out of their tree.
func leavesStandIns(s, d *place) bool {
	if s.end.Root == nil || d.end.Root != nil && s.end.Container == d.end.Container {
		return false
	}
	_, err := s.end.Root.Lstat(l2s.Dir)
	return !errors.Is(err, fs.ErrNotExist)
}

// relinker lets stand-ins of one root filesystem lead into another.
func relinker(from *rootfs.FS, to string) func(target string) string {
	roots := l2s.Roots(from.Path(), "")
	return func(target string) string {
		if moved, ok := l2s.Reroot(target, roots, to); ok {
			return moved
		}
		return target
	}
}
