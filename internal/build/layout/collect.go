package layout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"proot-distro/internal/dockerfile"
	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

// collector gathers the files of one source.
type collector struct {
	src     *Source
	exclude *dockerfile.Ignore
	only    *dockerfile.Ignore // --parents: the pattern, matched as an ignore file does
	batch   *Batch
}

// Collect gathers what a path, which may be a link, brings.
func (src *Source) Collect(ctx context.Context, name string, exclude *dockerfile.Ignore) (*Batch, error) {
	real, err := src.Root.Resolve(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, src.Missing(name)
		}
		return nil, fmt.Errorf("%s in %s: %w", name, src.What, report.Cause(err))
	}
	real = relative(real)
	info, err := src.Root.Lstat(real)
	if err != nil {
		return nil, err
	}
	b := &Batch{Name: path.Base("/" + name), IsDir: info.Mode.IsDir()}
	c := &collector{src: src, exclude: exclude, batch: b}
	v, err := src.verdict(real)
	if err == nil && name != real && !v.Ignored {
		var given dockerfile.Verdict
		given, err = src.verdict(name)
		v.Ignored = given.Ignored
	}
	if err != nil {
		return nil, err
	}
	if !b.IsDir {
		return b, c.single(name, real, info, v)
	}
	if v.Ignored && src.Ignore.Prune(real) {
		return nil, src.Missing(name)
	}
	// What is copied is in the directory: the destination does not become like it.
	b.files = append(b.files, File{Mode: fs.ModeDir | 0o755})
	if err := c.dir(ctx, real, "", v, dockerfile.Verdict{}, dockerfile.Verdict{}); err != nil {
		return nil, err
	}
	if v.Ignored && len(b.files) == 1 {
		return nil, src.Missing(name)
	}
	return b, nil
}

// CollectParents gathers what a word of COPY --parents means, with the directories on the way to it: those after "/./",
// if that occurs.
func (src *Source) CollectParents(ctx context.Context, word string, exclude *dockerfile.Ignore) (*Batch, error) {
	dir, pattern, pivoted := strings.Cut(word, "/./")
	if !pivoted {
		dir, pattern = "", word
	}
	var only *dockerfile.Ignore
	if pattern = relative(pattern); pattern != "" {
		var err error
		if only, err = dockerfile.NewIgnore(word, []string{pattern}); err != nil {
			return nil, err
		}
	}
	real, err := src.Root.Resolve(relative(dir))
	if err != nil {
		return nil, src.Missing(word)
	}
	if info, err := src.Root.Lstat(real); err != nil || !info.Mode.IsDir() {
		return nil, src.Missing(word)
	}
	real = relative(real)
	v, err := src.verdict(real)
	if err != nil {
		return nil, err
	}
	b := &Batch{IsDir: true, Into: true}
	c := &collector{src: src, exclude: exclude, only: only, batch: b}
	if err := c.dir(ctx, real, "", v, dockerfile.Verdict{}, dockerfile.Verdict{}); err != nil {
		return nil, err
	}
	if len(b.files) == 0 && !IsPattern(word) {
		return nil, src.Missing(word)
	}
	return b, nil
}

// single is Collect for a file. --exclude may mean its path or its name.
func (c *collector) single(name, real string, info rootfs.Info, v dockerfile.Verdict) error {
	if v.Ignored {
		return c.src.Missing(name)
	}
	for _, spelling := range []string{path.Base(name), name} {
		if v, err := c.exclude.Match(spelling, dockerfile.Verdict{}); err != nil || v.Ignored {
			return err
		}
	}
	if !info.Mode.IsRegular() {
		return fmt.Errorf("%s in %s is no regular file and no directory", name, c.src.What)
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
	entries, err := c.src.Root.View(rootfs.NoLinks).ReadDir(at)
	if err != nil {
		return fmt.Errorf("read %s: %w", c.src.What, err)
	}
	for _, e := range entries {
		name, below := path.Join(at, e.Name), path.Join(rel, e.Name)
		ig, err := c.src.Ignore.Match(name, ignored)
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
	info, err := c.src.Root.View(rootfs.NoLinks).Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // gone since the directory was read
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", c.src.What, err)
	}
	if !info.Mode.IsDir() {
		if !out && !c.backing(name) {
			c.leaf(name, below, info)
		}
		return nil
	}
	if ig.Ignored && c.src.Ignore.Prune(name) || ex.Ignored && c.exclude.Prune(below) || c.backing(name) {
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

func (c *collector) backing(name string) bool { return c.src.Links != nil && c.src.Links.Backing(name) }

// leaf adds an entry that is no directory.
func (c *collector) leaf(name, below string, info rootfs.Info) {
	switch {
	case info.Mode.IsRegular():
		c.batch.files = append(c.batch.files, c.file(below, name, info))
	case info.Mode&fs.ModeSymlink != 0:
		f := c.file(below, name, info)
		target, err := c.src.Root.View(rootfs.NoLinks).Readlink(name)
		if err != nil {
			return // gone meanwhile
		}
		f.link = target
		if c.src.Links != nil {
			if real, ok := c.src.Links.Resolve(target); ok {
				f = c.file(below, strings.TrimPrefix(real.Name, "/"), real.Info)
			}
		}
		c.batch.files = append(c.batch.files, f)
	default:
		c.src.OnSkip(name, "it is a device, a socket or a FIFO")
	}
}

func (c *collector) file(below, name string, info rootfs.Info) File {
	f := File{
		path: below, Mode: info.Mode, Size: info.Size, MTime: info.MTime, Times: !c.src.Host,
		Root: c.src.Root, Name: name, owner: c.src.Owners.Of(name),
	}
	if info.Nlink > 1 && info.Mode.IsRegular() {
		f.inode = [2]uint64{info.Dev, info.Ino}
	}
	return f
}
