package build

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	modes "github.com/tonistiigi/dchapes-mode"
)

// packer writes a layout as an uncompressed layer: sorted, times in whole seconds, the same
// bytes for the same content.
type packer struct {
	layout layout
	epoch  *time.Time // SOURCE_DATE_EPOCH
	now    time.Time  // of entries that have no time of their own

	names map[[2]uint64]string // of files that have several, the first one
	buf   []byte
}

func (p *packer) write(ctx context.Context, w io.Writer) error {
	tw := tar.NewWriter(w)
	p.buf, p.names = make([]byte, 256<<10), map[[2]uint64]string{}
	for _, name := range slices.Sorted(maps.Keys(p.layout)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		f := p.layout[name]
		if err := p.entry(tw, &f); err != nil {
			return err
		}
	}
	return tw.Close()
}

func (p *packer) entry(tw *tar.Writer, f *file) error {
	h := &tar.Header{
		Name: strings.TrimPrefix(f.path, "/"), Mode: unixMode(f.mode), Uid: f.owner.uid, Gid: f.owner.gid, ModTime: p.mtime(f),
	}
	if strings.HasPrefix(f.path[strings.LastIndexByte(f.path, '/')+1:], ".wh.") {
		return fmt.Errorf("%s cannot be part of an image: names that start with .wh. mean deleted files there", f.path)
	}
	switch {
	case f.mode.IsRegular() && p.linked(f, h):
		return p.header(tw, h)
	case f.mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		return p.header(tw, h)
	case f.mode&fs.ModeSymlink != 0:
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.link, 0o777
		return p.header(tw, h)
	}
	h.Typeflag, h.Size = tar.TypeReg, f.size
	r, err := f.open()
	if err != nil {
		return f.failed(err)
	}
	defer r.Close()
	if err := p.header(tw, h); err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{tw}, io.LimitReader(r, f.size), p.buf)
	if err != nil {
		return f.failed(err)
	}
	if n != f.size {
		return fmt.Errorf("%s changed while it was being copied: build again", f.name)
	}
	return nil
}

// linked makes the later names of a file hard links to its first.
func (p *packer) linked(f *file, h *tar.Header) bool {
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
func (p *packer) mtime(f *file) time.Time {
	t := f.mtime
	if t.IsZero() {
		t = p.now
	}
	if p.epoch != nil && (!f.times || t.After(*p.epoch)) {
		t = *p.epoch
	}
	return t.Truncate(time.Second)
}

func unixMode(m fs.FileMode) int64 {
	mode := int64(m.Perm())
	for bit, value := range specialBits {
		if m&bit != 0 {
			mode |= int64(value)
		}
	}
	return mode
}

var specialBits = map[fs.FileMode]uint64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000}

// chmod changes a mode as --chmod says; nil changes nothing.
type chmod func(fs.FileMode) fs.FileMode

// permissions are the bits that chmod(1) changes.
const permissions = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// parseChmod reads octal digits, or symbolic modes as of chmod(1).
func parseChmod(text string) (chmod, error) {
	if text == "" {
		return nil, nil
	}
	wrong := fmt.Errorf("--chmod=%s: the mode is octal, from 0 to 7777, or symbolic like u=rwX,go=rX", text)
	if strings.Trim(text, "0123456789") == "" {
		bits, err := strconv.ParseUint(text, 8, 32)
		if err != nil || bits > 0o7777 {
			return nil, wrong
		}
		mode := fs.FileMode(bits & 0o777)
		for bit, value := range specialBits {
			if bits&value != 0 {
				mode |= bit
			}
		}
		return func(m fs.FileMode) fs.FileMode { return m&^permissions | mode }, nil
	}
	set, err := modes.Parse(text)
	if err != nil {
		return nil, wrong
	}
	return func(m fs.FileMode) fs.FileMode { return m&^permissions | set.Apply(m)&permissions }, nil
}
