package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/oci"
	"proot-distro/internal/rootfs"
)

// blobName is the file name of a blob. It refuses everything but a SHA-256 digest, so
// that a crafted one never becomes a path.
func blobName(d v1.Descriptor) (string, error) {
	if err := oci.CheckDescriptor(d); err != nil {
		return "", err
	}
	return "sha256_" + d.Digest.Encoded(), nil
}

// Has reports whether a file of the right name and size is cached; its bytes are
// verified when they are read.
func (c *Cache) Has(d v1.Descriptor) bool {
	name, err := blobName(d)
	if err != nil {
		return false
	}
	dir, err := c.dir(c.layers, false)
	if err != nil {
		return false
	}
	defer dir.Close()
	return has(dir, name, d.Size)
}

func has(dir *rootfs.Dir, name string, size int64) bool {
	info, err := dir.Lstat(name)
	return err == nil && info.Mode.IsRegular() && info.Size == size
}

// Blob is a cached layer. One that turns out damaged is deleted, so that the next pull
// fetches it anew.
func (c *Cache) Blob(d v1.Descriptor) Blob { return cached{c, d} }

type cached struct {
	c *Cache
	d v1.Descriptor
}

func (b cached) Descriptor() v1.Descriptor { return b.d }

func (b cached) Open() (io.ReadCloser, error) {
	name, err := blobName(b.d)
	if err != nil {
		return nil, fmt.Errorf("open cached layer: %w", err)
	}
	dir, err := b.c.dir(b.c.layers, false)
	if err != nil {
		return nil, err
	}
	f, err := dir.Open(name)
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("open cached layer: %w", err)
	}
	return &verifier{f: f, dir: dir, name: name, want: b.d, sum: sha256.New()}, nil
}

// verifier reads a cached blob and checks it at the end.
type verifier struct {
	f    *os.File
	dir  *rootfs.Dir
	name string
	want v1.Descriptor
	sum  hash.Hash
	n    int64
	err  error // what the last Read returned
}

func (v *verifier) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	n, err := v.f.Read(p)
	v.sum.Write(p[:n])
	v.n += int64(n)
	switch {
	case err == io.EOF:
		v.err = v.check()
	case err != nil:
		v.err = fmt.Errorf("read cached layer: %w", err)
	case v.n > v.want.Size:
		v.err = v.check()
	}
	return n, v.err
}

// check returns io.EOF for a sound blob and deletes a damaged one.
func (v *verifier) check() error {
	got := digestOf(v.sum)
	if v.n == v.want.Size && got == v.want.Digest {
		return io.EOF
	}
	e := &DigestError{What: "cached layer", Want: string(v.want.Digest), Got: string(got)}
	if err := v.dir.Remove(v.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(e, fmt.Errorf("remove damaged layer: %w", err))
	}
	return e
}

func (v *verifier) Close() error { return errors.Join(v.f.Close(), v.dir.Close()) }

func digestOf(sum hash.Hash) digest.Digest {
	return digest.Digest("sha256:" + hex.EncodeToString(sum.Sum(nil)))
}

// ReadBlob returns a small cached blob, verified.
func (c *Cache) ReadBlob(d v1.Descriptor, limit int64) ([]byte, error) {
	if d.Size > limit {
		return nil, fmt.Errorf("read cached blob: %d bytes are more than %d", d.Size, limit)
	}
	r, err := c.Blob(d).Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// WriteBlob keeps a small blob, such as a manifest or a config, and returns its digest.
func (c *Cache) WriteBlob(data []byte) (digest.Digest, error) {
	d := v1.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
	if _, err := c.ReadBlob(d, d.Size); err == nil {
		return d.Digest, nil
	}
	p, err := c.Partial(context.Background(), d, nil)
	if errors.Is(err, ErrCached) { // by another process, just now
		return d.Digest, nil
	} else if err != nil {
		return "", err
	}
	defer p.Close()
	if err := p.Reset(); err != nil {
		return "", err
	}
	if _, err := p.Write(data); err != nil {
		return "", err
	}
	return d.Digest, p.Commit()
}
