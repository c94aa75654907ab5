package transfer

import (
	"errors"
	"io/fs"
	"path"

	"golang.org/x/sys/unix"

	"proot-distro/internal/rootfs"
)

// walk copies what is in a directory. It gives up one share of n.
func (p *pass) walk(n *node) {
	defer p.release(n)
	entries, err := n.src.ReadDir()
	if err != nil {
		p.miss("read", p.from.at(n.src.Path()), err)
		return
	}
	old, err := p.existing(n)
	if err != nil {
		p.fail("read", p.to.at(n.dst.Path()), err)
		return
	}
	for _, e := range entries {
		for len(old) > 0 && old[0].Name < e.Name {
			p.sweep(n, old[0].Name)
			old = old[1:]
		}
		if p.stopped() {
			return
		}
		there := !p.compare && !n.fresh // not known, and found out by trying
		if len(old) > 0 && old[0].Name == e.Name {
			there, old = true, old[1:]
		}
		p.entry(n, e, e.Name, there)
	}
	for _, e := range old {
		p.sweep(n, e.Name)
	}
}

// existing lists the destination where that saves asking for each entry.
func (p *pass) existing(n *node) ([]rootfs.Entry, error) {
	if !p.compare || n.fresh {
		return nil, nil
	}
	return n.dst.ReadDir()
}

// sweep deletes a temporary file that a killed process left.
func (p *pass) sweep(n *node, name string) {
	if staleTemp(name) {
		_ = n.change(func() error { return n.dst.Remove(name) }) // it does no harm
	}
}

// entry copies one entry of n.src to the name to in n.dst. there is false when that is
// known to be free.
func (p *pass) entry(n *node, e rootfs.Entry, to string, there bool) {
	switch {
	case p.hidden(n.src, e.Name):
	case e.Type.IsDir():
		p.directory(n, e.Name, to, there)
	case e.Type&fs.ModeSymlink != 0:
		p.link(n, e.Name, to, there)
	case e.Type.IsRegular():
		p.regular(n, e.Name, to, there)
	default:
		p.skipped.Add(1)
		p.report.Detailf("skipped %s: %s", p.from.at(path.Join(n.src.Path(), e.Name)), kind(e.Type))
	}
}

// kind names what is not copied.
func kind(t fs.FileMode) string {
	switch {
	case t&fs.ModeNamedPipe != 0:
		return "a FIFO"
	case t&fs.ModeSocket != 0:
		return "a socket"
	case t&fs.ModeDevice != 0:
		return "a device"
	}
	return "not a regular file"
}

// directory copies a directory with all that is in it.
func (p *pass) directory(n *node, from, to string, there bool) {
	shown := path.Join(n.src.Path(), from)
	child := &node{attrs: true}
	var err error
	if child.final, err = n.src.Lstat(from); err == nil {
		child.src, err = n.src.OpenDir(from)
	}
	if gone(err) {
		return
	}
	if err == nil && p.faithful && child.final.Mode.Perm()&0o500 != 0o500 {
		child.reopened = n.src.Chmod(from, child.final.Mode|0o700) == nil
	}
	if err != nil {
		p.miss("open", p.from.at(shown), err)
		return
	}
	child.closed = n.closed || child.final.Mode.Perm()&0o100 == 0
	if !p.makeDir(n, child, to, there) {
		child.src.Close()
		return
	}
	child.shares.Add(1)
	p.descend(child)
}

// descend walks a directory, for a sync beside this one if there is a processor for
// it: comparing is all that most syncs do.
func (p *pass) descend(child *node) {
	if p.compare {
		select {
		case p.walkers <- struct{}{}:
			p.walking.Go(func() {
				p.walk(child)
				<-p.walkers
			})
			return
		default:
		}
	}
	p.walk(child)
}

// makeDir opens the directory to of n.dst as child.dst, and creates it when
// it is missing.
func (p *pass) makeDir(n, child *node, to string, there bool) bool {
	shown := p.to.at(path.Join(n.dst.Path(), to))
	for {
		if there {
			old, err := n.dst.Lstat(to)
			switch {
			case err == nil && old.Mode.IsDir():
				return p.openDir(n, child, to, old)
			case err == nil && p.compare:
				err = n.change(func() error { return n.dst.Remove(to) })
			case err == nil:
				p.miss("copy to", shown, errInTheWay)
				return false
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				p.fail("write", shown, err)
				return false
			}
		}
		err := n.change(func() error { return n.dst.Mkdir(to, child.final.Mode.Perm()|0o700) })
		if err == nil {
			child.fresh = true
			if child.dst, err = n.dst.OpenDir(to); err == nil {
				p.attributes(child)
				return true
			}
		}
		if !errors.Is(err, fs.ErrExist) || there {
			p.fail("create", shown, err)
			return false
		}
		there = true
	}
}

// openDir takes a directory that is there already. Only sync changes its mode.
func (p *pass) openDir(n, child *node, to string, old rootfs.Info) bool {
	var err error
	child.old, child.attrs = old, p.compare
	if old.Mode.Perm()&0o500 != 0o500 {
		child.wide = n.dst.Chmod(to, old.Mode|0o700) == nil
	}
	if child.dst, err = n.dst.OpenDir(to); err != nil {
		p.fail("open", p.to.at(path.Join(n.dst.Path(), to)), err)
		return false
	}
	return true
}

var (
	errInTheWay = errors.New("something that is not a directory is in the way")
	errDirInWay = errors.New("a directory is in the way")
)

// gone tells entries that were deleted since they were listed.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// link copies a symbolic link, or the file that a stand-in means.
func (p *pass) link(n *node, from, to string, there bool) {
	shown := path.Join(n.src.Path(), from)
	target, err := n.src.Readlink(from)
	if gone(err) {
		return
	}
	var info rootfs.Info
	if err == nil {
		info, err = n.src.Lstat(from)
	}
	if err != nil {
		p.miss("read", p.from.at(shown), err)
		return
	}
	if meant, ok := p.standIn(target); ok {
		p.enqueue(job{n: n, name: from, to: to, path: meant, old: p.oldInfo(n, to, there)})
		return
	}
	if p.relink != nil {
		target = p.relink(target)
	}
	if there && p.compare && p.sameLink(n, to, target, info) {
		return
	}
	err = p.put(n, to, func(name string) error {
		if err := n.dst.Symlink(target, name); err != nil {
			return err
		}
		if p.faithful {
			p.keepOwner(n.dst.Fd(), name, info)
		}
		return setTime(n.dst.Fd(), name, info.MTime)
	})
	if err == nil {
		p.copied.Add(1)
		p.report.Detailf("%s %s", p.verb, p.from.at(shown))
	}
}

// sameLink brings the time of an up-to-date link up to date.
func (p *pass) sameLink(n *node, to, target string, info rootfs.Info) bool {
	old, err := n.dst.Lstat(to)
	if err != nil || old.Mode&fs.ModeSymlink == 0 {
		return false
	}
	if has, err := n.dst.Readlink(to); err != nil || has != target {
		return false
	}
	if !sameSecond(old, info) {
		_ = setTime(n.dst.Fd(), to, info.MTime) // not every file system keeps it
	}
	p.same.Add(1)
	return true
}

func sameSecond(a, b rootfs.Info) bool { return a.MTime.Unix() == b.MTime.Unix() }

// put makes an entry called to: under a temporary name first, unless the whole
// tree is one. Its error has been reported.
func (p *pass) put(n *node, to string, create func(name string) error) error {
	shown := p.to.at(path.Join(n.dst.Path(), to))
	name := to
	if p.temp != "" {
		name = p.tempName()
	}
	err := n.change(func() error { return create(name) })
	if err == nil && name != to {
		err = n.dst.Rename(name, n.dst, to)
		if isDirInWay(err) && p.clear(n, to) {
			err = n.dst.Rename(name, n.dst, to)
		}
	}
	if err == nil {
		return nil
	}
	if name != to {
		_ = n.dst.Remove(name)
	}
	if isDirInWay(err) {
		p.miss("replace", shown, errDirInWay)
	} else if side := (*sourceError)(nil); !errors.As(err, &side) {
		p.fail("write", shown, err)
	}
	return err
}

func isDirInWay(err error) bool { return errors.Is(err, unix.EISDIR) }

// clear removes a directory from the place of a file: an empty one, or any if
// entries without a counterpart go anyway.
func (p *pass) clear(n *node, name string) bool {
	if !p.compare {
		return false
	}
	if p.clobber {
		return n.dst.RemoveAll(name, rootfs.RemoveOptions{OnRemove: p.deletedEntry}) == nil
	}
	return n.dst.Remove(name) == nil
}

func (p *pass) deletedEntry(name string) {
	p.deleted.Add(1)
	p.report.Detailf("deleted %s", p.to.at(name))
}

// oldInfo describes what stands at a name, if it may be up to date.
func (p *pass) oldInfo(n *node, name string, there bool) *rootfs.Info {
	if !p.compare || !there {
		return nil
	}
	info, err := n.dst.Lstat(name)
	if err != nil || !info.Mode.IsRegular() {
		return nil
	}
	return &info
}

// regular copies a file, unless it is up to date.
func (p *pass) regular(n *node, from, to string, there bool) {
	j := job{n: n, name: from, to: to, old: p.oldInfo(n, to, there)}
	if !p.faithful && (j.old == nil || p.checksum) {
		p.enqueue(j)
		return
	}
	info, err := n.src.Lstat(from)
	switch {
	case gone(err):
	case err != nil:
		p.miss("read", p.from.at(path.Join(n.src.Path(), from)), err)
	case p.faithful && info.Nlink > 1:
		p.hardLink(j, inode{info.Dev, info.Ino})
	case j.old != nil && info.Size == j.old.Size && sameSecond(*j.old, info):
		p.upToDate(n, to, info, *j.old)
	default:
		p.enqueue(j)
	}
}

// upToDate leaves a file's content as it is.
func (p *pass) upToDate(n *node, to string, info, old rootfs.Info) {
	p.same.Add(1)
	p.meter.Add(info.Size)
	var err error
	if mode := p.keptMode(info); mode != old.Mode {
		err = n.dst.Chmod(to, mode)
	}
	if err == nil && !sameSecond(info, old) {
		err = setTime(n.dst.Fd(), to, info.MTime)
	}
	if err != nil {
		p.fail("write", p.to.at(path.Join(n.dst.Path(), to)), err)
	}
}
