package build

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"proot-distro/internal/engine"
	"proot-distro/internal/rootfs"
)

// mounted is what a RUN finds in its place: our own binds and its mounts.
type mounted struct {
	binds   []engine.Bind
	tmpfs   []engine.Tmpfs // below the binds
	env     []string
	targets []string // that do not belong to the image
	stubs   stubs    // of mounts; those of our own binds stay for the next RUN
	copies  map[int]func(context.Context) (string, error)
	locks   []*os.File
	dirs    []string // host paths to be deleted
	servers []io.Closer
	session *session
}

// skip leaves out of layers what was mounted.
func (p *mounted) skip(name string) bool { return below(name, p.targets) }

// id tells sets of targets apart.
func (p *mounted) id() string { return strings.Join(p.targets, "\n") }

// bound gives the host path behind a guest path.
func (p *mounted) bound(name string) (string, bool) {
	for i := len(p.binds) - 1; i >= 0; i-- {
		b := p.binds[i]
		if below(name, []string{b.Target}) {
			return filepath.Join(b.Source, strings.TrimPrefix(name, b.Target)), true
		}
	}
	return "", false
}

// demanding reports whether there is something that not every engine can mount.
func (p *mounted) demanding() bool {
	return len(p.tmpfs) > 0 || slices.ContainsFunc(p.binds, func(b engine.Bind) bool { return b.ReadOnly })
}

// makeDo is for engines that only bind, and not read-only: temporary filesystems become directories, and copies, which
// may be spoilt, take the place of what must not be written to.
func (p *mounted) makeDo(ctx context.Context, s *stage) error {
	for i := range p.binds {
		p.binds[i].ReadOnly = false
		if replace := p.copies[i]; replace != nil {
			dir, err := replace(ctx)
			if err != nil {
				return err
			}
			p.binds[i].Source = dir
		}
	}
	var dirs []engine.Bind
	for _, m := range p.tmpfs {
		if m.Size > 0 {
			s.warnOnce("--mount type=tmpfs: only the native engine can limit the size of %s to %d bytes", m.Target, m.Size)
		}
		dir, err := s.scratch.dir("tmpfs")
		if err != nil {
			return err
		}
		p.dirs = append(p.dirs, dir)
		if err := os.Chmod(dir, 0o777|fs.ModeSticky); err != nil {
			return err
		}
		dirs = append(dirs, engine.Bind{Source: dir, Target: m.Target})
	}
	p.binds, p.tmpfs = append(dirs, p.binds...), nil
	return nil
}

func (p *mounted) close(root *rootfs.FS) error {
	err := p.stubs.remove(root)
	for _, server := range p.servers {
		err = errors.Join(err, server.Close())
	}
	for _, dir := range p.dirs {
		err = errors.Join(err, p.session.scratch.remove(dir))
	}
	for _, lock := range p.locks {
		err = errors.Join(err, lock.Close())
	}
	return err
}

func (p *mounted) bind(b engine.Bind) {
	p.binds = append(p.binds, b)
	p.targets = append(p.targets, b.Target)
}

// put binds a host path at a mount's target.
func (p *mounted) put(root *rootfs.FS, m *mount, hostPath string, dir bool) error {
	at, err := p.stubs.add(root, m.target, dir)
	if err != nil {
		return err
	}
	p.bind(engine.Bind{Source: hostPath, Target: at, ReadOnly: m.ReadOnly})
	return nil
}
