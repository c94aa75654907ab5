package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"proot-distro/internal/dockerfile"
	"proot-distro/internal/rootfs"
)

// file is an entry on its way into a layer.
type file struct {
	path  string      // below its batch's root; in the image once it is placed
	mode  fs.FileMode // type and permissions
	size  int64
	mtime time.Time
	link  string // target of a symbolic link
	owner owner

	root  *rootfs.FS // holds the content, or else
	name  string     // of the content in root
	data  []byte
	inode [2]uint64 // device and number, where a file has several names
	times bool      // mtime means something
}

func (f *file) open() (io.ReadCloser, error) {
	if f.root == nil {
		return io.NopCloser(strings.NewReader(string(f.data))), nil
	}
	return f.root.Open(f.name)
}

// batch is what one source of a COPY brings.
type batch struct {
	name  string // the last component, which a file keeps in a directory
	isDir bool   // its content is copied; the entry "" is the directory itself
	into  bool   // the destination is a directory for certain: --parents
	files []file
}

// collector gathers the files of one source.
type collector struct {
	src     *source
	exclude *dockerfile.Ignore
	only    *dockerfile.Ignore // --parents: the pattern, matched as an ignore file does
	batch   *batch
	onSkip  func(name, reason string)
}

// collect gathers what a path of src, which may be a link, brings.
func (s *stage) collect(ctx context.Context, src *source, name string, exclude *dockerfile.Ignore) (*batch, error) {
	real, err := src.root.Resolve(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, src.missing(name)
		}
		return nil, fmt.Errorf("%s in %s: %w", name, src.what, innermost(err))
	}
	real = strings.TrimPrefix(real, "/")
	info, err := src.root.Lstat(real)
	if err != nil {
		return nil, err
	}
	b := &batch{name: path.Base("/" + name), isDir: info.Mode.IsDir()}
	c := &collector{src: src, exclude: exclude, batch: b, onSkip: s.skipped(src)}
	v, err := src.verdict(real)
	if err == nil && name != real && !v.Ignored {
		var given dockerfile.Verdict
		given, err = src.verdict(name)
		v.Ignored = given.Ignored
	}
	if err != nil {
		return nil, err
	}
	if !b.isDir {
		return b, c.single(name, real, info, v)
	}
	if v.Ignored && src.ignore.Prune(real) {
		return nil, src.missing(name)
	}
	b.files = append(b.files, c.file("", real, info))
	if err := c.dir(ctx, real, "", v, dockerfile.Verdict{}, dockerfile.Verdict{}); err != nil {
		return nil, err
	}
	if v.Ignored && len(b.files) == 1 {
		return nil, src.missing(name)
	}
	return b, nil
}

// collectMatching gathers what matches a pattern in a directory, with the directories on the
// way to it.
func (s *stage) collectMatching(ctx context.Context, src *source, name string, exclude, only *dockerfile.Ignore) (*batch, error) {
	real, err := src.root.Resolve(name)
	if err != nil {
		return nil, err
	}
	real = strings.TrimPrefix(real, "/")
	v, err := src.verdict(real)
	if err != nil {
		return nil, err
	}
	b := &batch{isDir: true, into: true}
	c := &collector{src: src, exclude: exclude, only: only, batch: b, onSkip: s.skipped(src)}
	return b, c.dir(ctx, real, "", v, dockerfile.Verdict{}, dockerfile.Verdict{})
}

func (s *stage) skipped(src *source) func(name, reason string) {
	return func(name, reason string) { s.Report.Detailf("%s in %s is left out: %s", name, src.what, reason) }
}

// single is collect for a file. --exclude may mean its path or its name.
func (c *collector) single(name, real string, info rootfs.Info, v dockerfile.Verdict) error {
	if v.Ignored {
		return c.src.missing(name)
	}
	for _, spelling := range []string{path.Base(name), name} {
		if v, err := c.exclude.Match(spelling, dockerfile.Verdict{}); err != nil || v.Ignored {
			return err
		}
	}
	if !info.Mode.IsRegular() {
		return fmt.Errorf("%s in %s is no regular file and no directory", name, c.src.what)
	}
	c.batch.files = append(c.batch.files, c.file("", real, info))
	return nil
}

// dir gathers the content of a directory: at is its path in the source, rel below the batch's
// root. The verdicts are those of the directory.
func (c *collector) dir(ctx context.Context, at, rel string, ignored, excluded, wanted dockerfile.Verdict) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := c.src.root.View(rootfs.NoLinks).ReadDir(at)
	if err != nil {
		return fmt.Errorf("read %s: %w", c.src.what, err)
	}
	for _, e := range entries {
		name, below := path.Join(at, e.Name), path.Join(rel, e.Name)
		ig, err := c.src.ignore.Match(name, ignored)
		if err != nil {
			return err
		}
		ex, err := c.exclude.Match(below, excluded)
		if err != nil {
			return err
		}
		want, err := c.only.Match(below, wanted)
		if err != nil {
			return err
		}
		if err := c.entry(ctx, name, below, ig, ex, want); err != nil {
			return err
		}
	}
	return nil
}

func (c *collector) entry(ctx context.Context, name, below string, ig, ex, want dockerfile.Verdict) error {
	out := ig.Ignored || ex.Ignored || c.only != nil && !want.Ignored
	info, err := c.src.root.View(rootfs.NoLinks).Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // gone since the directory was read
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", c.src.what, err)
	}
	if !info.Mode.IsDir() {
		if !out && !c.backing(name) {
			c.leaf(name, below, info)
		}
		return nil
	}
	if ig.Ignored && c.src.ignore.Prune(name) || ex.Ignored && c.exclude.Prune(below) || c.backing(name) {
		return nil
	}
	before := len(c.batch.files)
	c.batch.files = append(c.batch.files, c.file(below, name, info))
	if err := c.dir(ctx, name, below, ig, ex, want); err != nil {
		return err
	}
	if out && len(c.batch.files) == before+1 { // nothing in it was brought back
		c.batch.files = c.batch.files[:before]
	}
	return nil
}

func (c *collector) backing(name string) bool { return c.src.links != nil && c.src.links.Backing(name) }

// leaf adds an entry that is no directory.
func (c *collector) leaf(name, below string, info rootfs.Info) {
	switch {
	case info.Mode.IsRegular():
		c.batch.files = append(c.batch.files, c.file(below, name, info))
	case info.Mode&fs.ModeSymlink != 0:
		f := c.file(below, name, info)
		target, err := c.src.root.View(rootfs.NoLinks).Readlink(name)
		if err != nil {
			return // gone meanwhile
		}
		f.link = target
		if c.src.links != nil {
			if real, ok := c.src.links.Resolve(target); ok {
				f = c.file(below, strings.TrimPrefix(real.Name, "/"), real.Info)
			}
		}
		c.batch.files = append(c.batch.files, f)
	default:
		c.onSkip(name, "it is a device, a socket or a FIFO")
	}
}

func (c *collector) file(below, name string, info rootfs.Info) file {
	f := file{
		path: below, mode: info.Mode, size: info.Size, mtime: info.MTime, times: !c.src.context,
		root: c.src.root, name: name, owner: c.src.owners["/"+name],
	}
	if info.Nlink > 1 && info.Mode.IsRegular() {
		f.inode = [2]uint64{info.Dev, info.Ino}
	}
	return f
}

// digest is over what a batch brings, and not over its times: names, types, modes,
// owners, link targets, contents.
func (b *batch) digest(ctx context.Context) (string, error) {
	sum := sha256.New()
	buf := make([]byte, 256<<10)
	fmt.Fprintf(sum, "batch %q %t %t\n", b.name, b.isDir, b.into)
	for i := range b.files {
		f := &b.files[i]
		if err := ctx.Err(); err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%q %o %q %d:%d %d\n", f.path, f.mode, f.link, f.owner.uid, f.owner.gid, f.contentSize())
		if !f.mode.IsRegular() {
			continue
		}
		r, err := f.open()
		if err != nil {
			return "", f.failed(err)
		}
		_, err = io.CopyBuffer(sum, struct{ io.Reader }{r}, buf)
		if err = errors.Join(err, r.Close()); err != nil {
			return "", f.failed(err)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func (f *file) contentSize() int64 {
	if f.mode.IsRegular() {
		return f.size
	}
	return 0
}

func (f *file) failed(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%s may not be read: change its permissions, or exclude it in .dockerignore", f.name)
	}
	return fmt.Errorf("read %s: %w", f.name, innermost(err))
}
