package layout

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"proot-distro/internal/rootfs"
)

// Times are those that a layer gets.
type Times struct {
	Epoch *time.Time // SOURCE_DATE_EPOCH
	Now   time.Time  // of entries that have no time of their own
}

// Pack writes a layout as an uncompressed layer: sorted, times in whole seconds, the same
// bytes for the same content.
func (l Layout) Pack(ctx context.Context, w io.Writer, times Times) error {
	tw := tar.NewWriter(w)
	p := &packer{times, map[[2]uint64]string{}, make([]byte, 256<<10)}
	for _, name := range slices.Sorted(maps.Keys(l)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		f := l[name]
		if err := p.entry(tw, &f); err != nil {
			return err
		}
	}
	return tw.Close()
}

type packer struct {
	Times
	names map[[2]uint64]string // of files that have several, the first one
	buf   []byte
}

func (p *packer) entry(tw *tar.Writer, f *File) error {
	h := &tar.Header{
		Name: strings.TrimPrefix(f.path, "/"), Mode: int64(rootfs.UnixMode(f.Mode)), Uid: f.owner.UID, Gid: f.owner.GID, ModTime: p.mtime(f),
	}
	if strings.HasPrefix(f.path[strings.LastIndexByte(f.path, '/')+1:], ".wh.") {
		return fmt.Errorf("%s cannot be part of an image: names that start with .wh. mean deleted files there", f.path)
	}
	switch {
	case f.Mode.IsRegular() && p.linked(f, h):
		return p.header(tw, h)
	case f.Mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		return p.header(tw, h)
	case f.Mode&fs.ModeSymlink != 0:
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.link, 0o777
		return p.header(tw, h)
	}
	h.Typeflag, h.Size = tar.TypeReg, f.Size
	r, err := f.Open()
	if err != nil {
		return f.Failed(err)
	}
	defer r.Close()
	if err := p.header(tw, h); err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{tw}, io.LimitReader(r, f.Size), p.buf)
	if err != nil {
		return f.Failed(err)
	}
	if n != f.Size {
		return fmt.Errorf("%s changed while it was being copied: build again", f.Name)
	}
	return nil
}

// linked makes the later names of a file hard links to its first.
func (p *packer) linked(f *File, h *tar.Header) bool {
	if f.inode == ([2]uint64{}) {
		return false
	}
	first, known := p.names[f.inode]
	if !known {
		p.names[f.inode] = h.Name
		return false
	}
	h.Typeflag, h.Linkname = tar.TypeLink, first
	return true
}

func (p *packer) header(tw *tar.Writer, h *tar.Header) error {
	if err := tw.WriteHeader(h); err != nil {
		return fmt.Errorf("pack %s: %w", h.Name, err)
	}
	return nil
}

// mtime obeys SOURCE_DATE_EPOCH: times of the build's own inputs, which differ between
// machines, become it; others only when they are later.
func (p *packer) mtime(f *File) time.Time {
	t := f.MTime
	if t.IsZero() {
		t = p.Now
	}
	if p.Epoch != nil && (!f.Times || t.After(*p.Epoch)) {
		t = *p.Epoch
	}
	return t.Truncate(time.Second)
}
