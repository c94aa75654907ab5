package image

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime"

	"github.com/klauspost/pgzip"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// What a layer's compressed bytes depend on. Changing it changes the digests of all layers
// that are built from then on.
const (
	layerLevel = 6 // of gzip, as BuildKit's
	layerBlock = 1 << 20
)

const maxLayerBlocks = 8 // compressed at once; each takes some 3 MiB

// AddLayer compresses what write writes, an uncompressed layer, into the cache, and gives
// the blob's descriptor and the layer's diff ID. The same bytes give the same blob on every
// machine. When write fails, its error is returned and nothing is kept.
//
// A caller holds the cache's lock, [Shared], until something in the cache refers to the blob.
func (c *Cache) AddLayer(ctx context.Context, write func(w io.Writer) error) (desc v1.Descriptor, diffID digest.Digest, err error) {
	dir, err := c.dir(c.layers, true)
	if err != nil {
		return v1.Descriptor{}, "", err
	}
	defer dir.Close()
	blob, err := newUnnamed(dir)
	if err != nil {
		return v1.Descriptor{}, "", fmt.Errorf("store layer: %w", err)
	}
	defer func() { err = errors.Join(err, blob.close()) }()
	diffID, err = compress(ctx, blob, write)
	if err != nil {
		return v1.Descriptor{}, "", err
	}
	desc = v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: digestOf(blob.sum), Size: blob.size}
	if err := blob.commit(desc); err != nil {
		return v1.Descriptor{}, "", fmt.Errorf("store layer: %w", err)
	}
	return desc, diffID, nil
}

// compress runs write, and compresses its output into blob. Compression runs in goroutines of
// its own; the output is hashed in this one.
func compress(ctx context.Context, blob io.Writer, write func(io.Writer) error) (digest.Digest, error) {
	z, err := pgzip.NewWriterLevel(blob, layerLevel)
	if err == nil {
		err = z.SetConcurrency(layerBlock, min(runtime.GOMAXPROCS(0), maxLayerBlocks))
	}
	if err != nil {
		return "", fmt.Errorf("compress layer: %w", err)
	}
	plain := plainLayer{ctx: ctx, next: z, sum: sha256.New()}
	buffered := bufio.NewWriterSize(&plain, 64<<10)
	err = write(buffered)
	if err == nil {
		err = buffered.Flush()
	}
	closeErr := z.Close()
	switch {
	case plain.err != nil: // and err may be what write made of it
		return "", plain.err
	case err != nil:
		return "", err
	case closeErr != nil:
		return "", fmt.Errorf("store layer: %w", closeErr)
	}
	return digestOf(plain.sum), nil
}

// plainLayer takes the uncompressed layer.
type plainLayer struct {
	ctx  context.Context
	next io.Writer
	sum  hash.Hash
	err  error
}

func (p *plainLayer) Write(b []byte) (int, error) {
	if p.err == nil {
		p.err = p.ctx.Err()
	}
	if p.err != nil {
		return 0, p.err
	}
	p.sum.Write(b)
	n, err := p.next.Write(b)
	if err != nil {
		p.err = fmt.Errorf("store layer: %w", err)
	}
	return n, p.err
}
