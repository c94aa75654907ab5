package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/compression"
	"proot-distro/internal/host"
)

// words makes text that compresses like text does, the same on every machine.
func words(size int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	for b.Len() < size {
		fmt.Fprintf(&b, "%x ", r.Uint64()>>(r.Uint64()%64))
	}
	return b.Bytes()[:size]
}

func writeAll(data []byte) func(io.Writer) error {
	return func(w io.Writer) error { _, err := w.Write(data); return err }
}

func addLayer(t testing.TB, c *Cache, data []byte) (v1.Descriptor, digest.Digest) {
	t.Helper()
	d, diffID, err := c.AddLayer(context.Background(), writeAll(data))
	if err != nil {
		t.Fatal(err)
	}
	return d, diffID
}

func blobFiles(t testing.TB, dirs host.Dirs) []string {
	t.Helper()
	entries, err := os.ReadDir(dirs.Layers())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestAddLayer(t *testing.T) {
	for _, size := range []int{0, 1, 1 << 20, 3<<20 + 17} {
		c, dirs := newCache(t)
		data := words(size)
		d, diffID := addLayer(t, c, data)
		if d.MediaType != v1.MediaTypeImageLayerGzip || diffID != digest.FromBytes(data) || !c.Has(d) {
			t.Errorf("%d bytes: %+v, diff ID %s", size, d, diffID)
		}
		r, err := c.Blob(d).Open()
		if err != nil {
			t.Fatal(err)
		}
		z, err := compression.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		back, err := io.ReadAll(z)
		if err != nil || !bytes.Equal(back, data) || z.Format() != compression.Gzip {
			t.Errorf("%d bytes: read back %d, %v", size, len(back), err)
		}
		z.Close()
		r.Close()
		if names := blobFiles(t, dirs); len(names) != 1 {
			t.Errorf("the cache has %q", names)
		}
		info, err := os.Stat(blobPath(dirs, d))
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("the blob has the mode %v, %v", info.Mode(), err)
		}
	}
}

// A layer's digest must not depend on the machine, its CPUs or what was compressed before.
func TestAddLayerDeterministic(t *testing.T) {
	c, _ := newCache(t)
	data := words(9<<20 + 12345)
	const want = "sha256:7aba42e590cd803ef14ce2a85746b9d1cba233cb0d73e71565dbddcae8715ba2"
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, cpus := range []int{1, 2, 5} {
		runtime.GOMAXPROCS(cpus)
		addLayer(t, c, data[cpus:])
		d, _, err := c.AddLayer(context.Background(), func(w io.Writer) error {
			for piece := range slices.Chunk(data, 1000*cpus) {
				if _, err := w.Write(piece); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || d.Digest != want {
			t.Errorf("with %d CPUs the digest is %s, %v", cpus, d.Digest, err)
		}
	}
}

func TestAddLayerFailures(t *testing.T) {
	c, dirs := newCache(t)
	oops := errors.New("oops")
	_, _, err := c.AddLayer(context.Background(), func(w io.Writer) error {
		w.Write(words(3 << 20))
		return fmt.Errorf("wrapped: %w", oops)
	})
	if !errors.Is(err, oops) {
		t.Errorf("a writer that fails gives %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	_, _, err = c.AddLayer(ctx, func(w io.Writer) error {
		cancel()
		for range 100 {
			if _, err := w.Write(words(100 << 10)); err != nil {
				return errors.New("something else")
			}
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupted writer gives %v", err)
	}
	if names := blobFiles(t, dirs); len(names) != 0 {
		t.Errorf("what failed leaves %q", names)
	}
}

func TestAddLayerLeftovers(t *testing.T) {
	c, dirs := newCache(t)
	data := words(5000)
	d, _ := addLayer(t, c, data)
	dead := filepath.Join(dirs.Layers(), unnamedPrefix+strings.Repeat("ab", 24)+".part")
	partial := filepath.Join(dirs.Layers(), "sha256_"+strings.Repeat("ab", 32)+".part")
	for _, name := range []string{dead, partial} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(blobPath(dirs, d), make([]byte, d.Size), 0o600); err != nil { // damaged
		t.Fatal(err)
	}
	_, _, err := c.AddLayer(context.Background(), func(w io.Writer) error {
		addLayer(t, c, data) // while another is being made
		_, err := w.Write([]byte("other"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); err == nil {
		t.Error("what a dead process left is still there")
	}
	if _, err := os.Stat(partial); err != nil {
		t.Errorf("a download was taken for a leftover: %v", err)
	}
	if _, err := c.ReadBlob(d, d.Size); err != nil {
		t.Errorf("the damaged blob was not replaced: %v", err)
	}
	if names := blobFiles(t, dirs); len(names) != 3 {
		t.Errorf("the cache has %q", names)
	}
}

func TestAddLayerAtOnce(t *testing.T) {
	c, dirs := newCache(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			data := words(100<<10 + i/2)
			if d, _, err := c.AddLayer(context.Background(), writeAll(data)); err != nil || !c.Has(d) {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if names := blobFiles(t, dirs); len(names) != 4 {
		t.Errorf("the cache has %q", names)
	}
}

func BenchmarkAddLayer(b *testing.B) {
	c := OpenCache(host.Dirs{Cache: b.TempDir()})
	for _, size := range []int{10 << 10, 64 << 20} {
		data := words(size)
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				addLayer(b, c, data)
			}
		})
	}
}
