package build

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"proot-distro/internal/compression"
	"proot-distro/internal/dockerfile"
	"proot-distro/internal/layer"
	"proot-distro/internal/registry"
	"proot-distro/internal/rootfs"
)

// StandardInput is the name of a context that is read from standard input.
const StandardInput = "-"

// A Context is what COPY and ADD of a build read from. One that is not a directory of this host is
// fetched into a scratch directory.
type Context struct {
	Dir     string
	Fetched bool
	// Dockerfile is all that the context was, instead of an archive; nil otherwise.
	Dockerfile []byte

	scratch *scratch
}

// Close deletes what was fetched.
func (c *Context) Close() error {
	if c.scratch == nil {
		return nil
	}
	return c.scratch.close()
}

// ContextName is what a context is called, as far as its place tells: "app" for
// "https://example.org/app.git#main". Else it is "".
func ContextName(where string) string {
	switch {
	case where == StandardInput:
		return ""
	case isRemote(where):
		where, _, _ = strings.Cut(where, "#")
		where, _, _ = strings.Cut(where, "?")
		name := path.Base(where[strings.LastIndex(where, ":")+1:])
		for _, suffix := range []string{".git", ".gz", ".bz2", ".xz", ".zst", ".tgz", ".tbz2", ".txz", ".tzst", ".tar"} {
			name = strings.TrimSuffix(name, suffix)
		}
		return name
	}
	full, err := filepath.Abs(where)
	if err != nil {
		return ""
	}
	return filepath.Base(full)
}

// OpenContext finds the context of a build: a directory, a git repository, the URL of an archive or of a
// Dockerfile, or [StandardInput], which is one of these two. The caller closes it after the build.
func (b *Builder) OpenContext(ctx context.Context, where string, stdin io.Reader) (c *Context, err error) {
	c = &Context{Dir: where}
	if where != StandardInput && !isRemote(where) {
		return c, nil
	}
	Sweep(b.Host.Dirs)
	c.Fetched, c.scratch = true, newScratch(b.Host.Dirs)
	if c.Dir, err = c.scratch.dir("context"); err == nil {
		switch {
		case where == StandardInput:
			where = "standard input"
			err = b.readContext(ctx, c, stdin)
		case isGit(where):
			err = b.cloneContext(ctx, c, where)
		default:
			err = b.downloadContext(ctx, c, where)
		}
	}
	if err == nil {
		return c, nil
	}
	if remote := new(registry.Error); !errors.As(err, &remote) { // which names it
		err = fmt.Errorf("the build context %s: %w", where, err)
	}
	return nil, errors.Join(err, c.Close())
}

// cloneContext leaves the .git directory out, as docker does.
func (b *Builder) cloneContext(ctx context.Context, c *Context, where string) error {
	g, err := parseGit(where)
	if err != nil {
		return err
	}
	b.Report.Infof("Cloning %s", where)
	root, err := g.clone(ctx, c.Dir)
	if err != nil {
		return err
	}
	defer root.Close()
	tree := root.View(rootfs.GuestLinks)
	info, err := tree.Stat("/" + g.subdir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode.IsDir() {
		return fmt.Errorf("it has no directory %s", g.subdir)
	}
	if err != nil {
		return err
	}
	real, err := tree.Resolve("/" + g.subdir)
	c.Dir = filepath.Join(c.Dir, real)
	return err
}

func (b *Builder) downloadContext(ctx context.Context, c *Context, where string) error {
	root, _, err := b.fetch(ctx, c.scratch, where)
	if err != nil {
		return err
	}
	f, err := root.Open(fetchedFile)
	if err != nil {
		return err
	}
	defer f.Close()
	return b.readContext(ctx, c, f)
}

// readContext unpacks an archive, compressed or not. What is none is a Dockerfile.
func (b *Builder) readContext(ctx context.Context, c *Context, packed io.Reader) error {
	plain, err := compression.NewReader(packed)
	if err != nil {
		return err
	}
	defer plain.Close()
	stream := bufio.NewReader(plain)
	if !beginsTar(stream) {
		c.Dockerfile, err = io.ReadAll(io.LimitReader(stream, dockerfile.MaxSize+1))
		if bytes.IndexByte(c.Dockerfile, 0) >= 0 {
			err = errors.New("it is neither a tar archive nor a Dockerfile")
		}
		return err
	}
	root, err := rootfs.Open(c.Dir, rootfs.GuestLinks)
	if err != nil {
		return err
	}
	defer root.Close()
	_, err = layer.Apply(ctx, root, stream, layer.Options{
		OnSkip: func(name, reason string) { b.Report.Detailf("the build context: left out %s: %s", name, reason) },
	})
	return err
}

// beginsTar looks at the first block of a stream.
func beginsTar(r *bufio.Reader) bool {
	const block = 512
	first, err := r.Peek(block)
	if err != nil {
		return false
	}
	_, err = tar.NewReader(bytes.NewReader(first)).Next()
	return !errors.Is(err, tar.ErrHeader)
}
