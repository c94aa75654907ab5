package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/internal/l2s"
	"proot-distro/internal/rootfs"
)

const packBuffer = 64 << 10 // stays in the CPU's cache

// packer writes entries of a tree into a layer.
type packer struct {
	*opener
	ctx    context.Context
	l2s    *l2s.Tree
	tar    *tar.Writer
	o      DiffOptions
	stats  DiffStats
	links  map[inode]string // names of files with several, when first packed
	newest int64            // change time of a file
	buf    []byte
}

func newPacker(ctx context.Context, root *rootfs.FS, w *tar.Writer, o DiffOptions) *packer {
	return &packer{
		opener: newOpener(newModes(root)),
		ctx:    ctx,
		l2s:    l2s.New(root.View(rootfs.GuestLinks)),
		tar:    w,
		o:      o,
		links:  map[inode]string{},
	}
}

func (p *packer) run(c *comparison) error {
	defer p.close()
	for _, u := range c.unfit {
		if p.o.OnSkip != nil {
			p.o.OnSkip(u.path, u.reason)
		}
	}
	for _, change := range c.changes {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		if err := p.pack(change); err != nil {
			return fmt.Errorf("pack %s: %w", quote(change.path), err)
		}
	}
	if err := p.tar.Close(); err != nil {
		return fmt.Errorf("write layer: %w", err)
	}
	return nil
}

func (p *packer) pack(c change) error {
	if len(c.path) > maxPath {
		return unix.ENAMETOOLONG
	}
	p.stats.Entries++
	dir, base := path.Split(c.path[1:])
	switch {
	case c.kind == isWhiteout:
		return p.whiteout(dir + whiteoutPrefix + base)
	case c.kind == isOpaque:
		return p.whiteout(c.path[1:] + "/" + opaqueMarker)
	}
	hdr := p.header(c)
	switch {
	case c.node.linked && p.links[c.node.inode()] != "":
		hdr.Typeflag, hdr.Linkname = tar.TypeLink, p.links[c.node.inode()]
		return p.tar.WriteHeader(hdr)
	case c.node.linked:
		p.links[c.node.inode()] = hdr.Name
	}
	switch {
	case c.node.isDir():
		return p.directory(c, hdr)
	case c.node.isFile():
		return p.file(c, hdr)
	}
	return p.symlink(c, hdr)
}

// whiteout writes an entry without content, as containerd does.
func (p *packer) whiteout(name string) error {
	return p.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, ModTime: time.Unix(0, 0)})
}

// header makes the header of an entry. Its format is left open: whatever is simplest for it.
func (p *packer) header(c change) *tar.Header {
	hdr := &tar.Header{
		Name:    c.path[1:],
		Mode:    int64(c.node.mode & 0o7777),
		ModTime: time.Unix(0, c.node.mtime).Truncate(time.Second),
	}
	if p.o.Epoch != nil && hdr.ModTime.After(*p.o.Epoch) {
		hdr.ModTime = p.o.Epoch.Truncate(time.Second)
	}
	if p.o.Owner != nil {
		hdr.Uid, hdr.Gid = p.o.Owner(c.path)
	}
	return hdr
}

func (p *packer) directory(c change, hdr *tar.Header) error {
	hdr.Typeflag, hdr.Name = tar.TypeDir, hdr.Name+"/"
	if c.node.attrs != 0 {
		d, err := p.dirAt(c.path)
		if err != nil {
			return changing(err)
		}
		hdr.PAXRecords = paxXattrs(xattrs(openPath(uintptr(d.Fd()))))
	}
	return p.tar.WriteHeader(hdr)
}

func (p *packer) symlink(c change, hdr *tar.Header) (err error) {
	hdr.Typeflag = tar.TypeSymlink
	if hdr.Linkname, err = p.readlink(c.path); err != nil {
		return changing(err)
	}
	return p.tar.WriteHeader(hdr)
}

func (p *packer) file(c change, hdr *tar.Header) error {
	f, err := p.openFile(c)
	if err != nil {
		return changing(err)
	}
	defer f.Close()
	if _, err := statUnchanged(f, c.node); err != nil {
		return err
	}
	hdr.Typeflag, hdr.Size = tar.TypeReg, c.node.size
	hdr.PAXRecords = paxXattrs(fileXattrs(f))
	if err := p.tar.WriteHeader(hdr); err != nil {
		return err
	}
	if _, err := p.content(p.tar, f, c.node.size); err != nil {
		return err
	}
	p.stats.Bytes += c.node.size
	st, err := statUnchanged(f, c.node)
	if err != nil {
		return err
	}
	c.node.ctime = nanoseconds(st.Ctim) // other than it was if the mode had to be widened
	p.newest = max(p.newest, c.node.ctime)
	return nil
}

func (p *packer) openFile(c change) (*os.File, error) {
	name := c.path
	if c.node.standIn {
		target, err := p.readlink(name)
		if err != nil {
			return nil, err
		}
		file, ok := p.l2s.Resolve(target)
		if !ok {
			return nil, ErrChanging
		}
		name = file.Name
	}
	return p.openAt(name)
}

// statUnchanged refuses a file that is not the one, or not as, it was noted.
func statUnchanged(f *os.File, n *node) (unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return st, fmt.Errorf("stat: %w", err)
	}
	is := nodeOf(&st)
	if is.inode() != n.inode() || is.mode != n.mode || is.mtime != n.mtime || is.size != n.size {
		return st, ErrChanging
	}
	return st, nil
}

// content copies exactly size bytes into w, and gives what is left when it cannot.
func (p *packer) content(w io.Writer, f *os.File, size int64) (left int64, err error) {
	if p.buf == nil {
		p.buf = make([]byte, packBuffer)
	}
	for size > 0 {
		if err := p.ctx.Err(); err != nil {
			return size, err
		}
		n, err := f.Read(p.buf[:min(int64(len(p.buf)), size)])
		if err == io.EOF {
			return size, ErrChanging
		}
		if err != nil {
			return size, err
		}
		if _, err := w.Write(p.buf[:n]); err != nil {
			return size, err
		}
		size -= int64(n)
	}
	return 0, nil
}

// changing says what it means when something noted before is not there any more.
func changing(err error) error {
	if isReplaced(err) || errors.Is(err, unix.EINVAL) { // no link any more
		return ErrChanging
	}
	return err
}
