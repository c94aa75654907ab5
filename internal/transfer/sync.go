package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

// SyncOptions are the options of [Sync].
type SyncOptions struct {
	Options
	Checksum bool // files of the same size are compared by CRC32 instead of modification time
	Delete   bool // entries of the destination without a counterpart go, when the source is a directory
}

// Sync makes the destination like the source and copies only what differs. The
// content of a directory comes into the destination itself; a file comes into
// it when that is a directory. Links are copied as they are, but for one that is named as
// the source and leads to a directory.
func Sync(ctx context.Context, from, to End, o SyncOptions) (Result, error) {
	s, err := findSyncSource(from, to)
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	d, err := findSyncTarget(to, s)
	if err != nil {
		return Result{}, err
	}
	defer d.close()
	if err := checkPair(s, d); err != nil {
		return Result{}, err
	}
	prune := o.Delete && s.info.Mode.IsDir()
	if prune && d.exists {
		if inside, err := within(s.dir, d.info); err != nil || inside {
			return Result{}, errors.Join(err, fmt.Errorf("%s lies in %s: --delete would delete the source", s, d))
		}
	}
	p := begin(ctx, from, to, rules{
		verb: "synced", temp: tempPrefix + "sync", compare: true, checksum: o.Checksum, clobber: prune,
	}, o.Options)
	p.progress("Syncing "+path.Base(s.String()), s, o.Options)
	p.top(s, d)
	if prune {
		p.drain()
		p.pruneTop(s, d)
	}
	return p.end()
}

// findSyncSource follows a link where it leads to a directory, or out of a container.
func findSyncSource(from, to End) (*place, error) {
	s, err := find(from, true)
	if err != nil {
		return nil, err
	}
	follow := leaves(from, to)
	if !follow && !s.info.Mode.IsDir() {
		s.close()
		if s, err = find(from, false); err != nil {
			return nil, err
		}
	}
	if err := checkSource(s, follow, CopyOptions{Recursive: true}); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// findSyncTarget finds the destination and makes the directories on the way to it.
func findSyncTarget(to End, s *place) (*place, error) {
	isDir := s.info.Mode.IsDir()
	dir := path.Dir(strings.TrimRight(to.Path, "/"))
	if !isDir && strings.HasSuffix(to.Path, "/") {
		dir = to.Path
	}
	var err error
	if to.Root != nil {
		err = to.Root.MkdirAll(dir, 0o755)
	} else {
		err = os.MkdirAll(filepath.Clean(dir), 0o755)
	}
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", to.at(dir), report.Cause(err))
	}
	d, err := find(to, true)
	if err != nil {
		return nil, err
	}
	if d.exists && d.info.Mode.IsDir() && !isDir {
		d.close()
		to.Path = path.Join(d.real, s.base)
		if d, err = find(to, false); err != nil {
			return nil, err
		}
	}
	if err := checkSyncTarget(s, d); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func checkSyncTarget(s, d *place) error {
	mode := d.info.Mode
	switch {
	case !d.exists, mode.IsDir():
		return nil // a directory in the place of a file is for the walk to deal with
	case s.info.Mode.IsDir():
		return fmt.Errorf("%s is not a directory: a directory cannot take its place", d)
	case mode.IsRegular(), mode&fs.ModeSymlink != 0:
		return nil
	}
	return fmt.Errorf("%s is %s: only files are overwritten", d, kind(mode))
}

// pruneTop deletes what the source does not have.
func (p *pass) pruneTop(s, d *place) {
	n := &node{final: s.info, attrs: true}
	var err error
	if n.src, err = reopen(s); err != nil {
		return // it is warned about already, and nothing is known to be missing
	}
	if n.dst, err = reopen(d); err != nil {
		n.src.Close()
		p.fail("open", d.String(), err)
		return
	}
	n.old = statDir(n.dst)
	n.shares.Store(1)
	p.prune(n)
}

// prune deletes the entries of n.dst that n.src does not have.
func (p *pass) prune(n *node) {
	defer p.release(n)
	wanted, err := n.src.ReadDir()
	if err != nil {
		n.attrs = false
		return // unreadable: what is in it is not known to be gone
	}
	has, err := n.dst.ReadDir()
	if err != nil {
		p.fail("read", p.to.at(n.dst.Path()), err)
		return
	}
	for _, e := range has {
		for len(wanted) > 0 && wanted[0].Name < e.Name {
			wanted = wanted[1:]
		}
		switch {
		case p.stopped():
			return
		case len(wanted) == 0 || wanted[0].Name != e.Name:
			p.remove(n, e.Name)
		case e.Type.IsDir() && wanted[0].Type.IsDir():
			p.pruneDir(n, e.Name)
		}
	}
}

func (p *pass) pruneDir(n *node, name string) {
	final, err := n.src.Lstat(name)
	if err != nil {
		return
	}
	child := &node{final: final, attrs: true}
	if child.src, err = n.src.OpenDir(name); err != nil {
		return
	}
	if child.dst, err = n.dst.OpenDir(name); err != nil {
		child.src.Close()
		return
	}
	child.old = statDir(child.dst)
	child.shares.Store(1)
	p.prune(child)
}

func (p *pass) remove(n *node, name string) {
	if p.kept(n.dst, name) {
		return
	}
	err := n.change(func() error {
		return n.dst.RemoveAll(name, rootfs.RemoveOptions{OnRemove: p.deletedEntry})
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.fail("delete", p.to.at(path.Join(n.dst.Path(), name)), err)
	}
}
