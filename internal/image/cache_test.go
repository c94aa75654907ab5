package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/host"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
)

func newCache(t *testing.T) (*Cache, host.Dirs) {
	t.Helper()
	dirs := host.Dirs{Cache: filepath.Join(t.TempDir(), "a", "cache")}
	c := OpenCache(dirs)
	return c, dirs
}

func descriptorOf(data string) v1.Descriptor {
	return v1.Descriptor{Digest: digest.FromString(data), Size: int64(len(data))}
}

func put(t *testing.T, c *Cache, data string) v1.Descriptor {
	t.Helper()
	if _, err := c.WriteBlob([]byte(data)); err != nil {
		t.Fatal(err)
	}
	return descriptorOf(data)
}

func blobPath(dirs host.Dirs, d v1.Descriptor) string {
	return filepath.Join(dirs.Layers(), "sha256_"+d.Digest.Encoded())
}

func mustRef(t *testing.T, s string) oci.Ref {
	t.Helper()
	ref, err := oci.ParseRef(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func record(imageRef string, arch platform.Arch) *oci.Record {
	config := `{"architecture":"amd64","os":"linux"}`
	manifest := fmt.Sprintf(`{ "schemaVersion":2, "config":{"digest":%q,"size":%d}, "layers":[] }`, digest.FromString(config), len(config))
	return &oci.Record{ImageRef: imageRef, Arch: arch, Repo: "library/x", Manifest: json.RawMessage(manifest), Config: json.RawMessage(config)}
}

func TestStoreAndLookup(t *testing.T) {
	c, dirs := newCache(t)
	ref := mustRef(t, "x:1")
	if _, err := c.Lookup(ref, platform.ARM); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Lookup in no cache: %v", err)
	}
	if _, err := os.Stat(dirs.Cache); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("looking something up created the cache: %v", err)
	}
	want := record("x:1", platform.X86_64)
	if err := c.Store(ref, want); err != nil {
		t.Fatal(err)
	}
	got, err := c.Lookup(mustRef(t, "docker.io/library/x:1"), platform.X86_64)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, original := range [][]byte{want.Manifest, want.Config} {
		data, err := c.ReadBlob(descriptorOf(string(original)), 1<<20)
		if err != nil || string(data) != string(original) {
			t.Errorf("original bytes: %q, %v", data, err)
		}
	}
	if _, err := c.Lookup(ref, platform.ARM); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Lookup for another architecture: %v", err)
	}
	if err := c.Store(mustRef(t, "a"), record("a", platform.ARM)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dirs.Manifests(), "0123.json"), []byte("{broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := c.List()
	if err != nil || len(list) != 2 || list[0].ImageRef != "a" || list[1].ImageRef != "x:1" {
		t.Errorf("List = %+v, %v", list, err)
	}
	if err := c.Remove(ref, platform.X86_64); err != nil {
		t.Error(err)
	}
	if err := c.Remove(ref, platform.X86_64); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("second Remove: %v", err)
	}
}

// TestHostileRecords: what a guest can put in the place of a record is a miss, and is
// replaced by the next Store without being followed.
func TestHostileRecords(t *testing.T) {
	ref := mustRef(t, "x")
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, plant := range map[string]func(path string) error{
		"symlink": func(p string) error { return os.Symlink(outside, p) },
		"huge":    func(p string) error { return errors.Join(os.WriteFile(p, nil, 0o600), os.Truncate(p, 1<<30)) },
		"broken":  func(p string) error { return os.WriteFile(p, []byte(`{"manifest":7}`), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			c, dirs := newCache(t)
			path := filepath.Join(dirs.Manifests(), ref.CacheKey(platform.ARM)+".json")
			if err := errors.Join(os.MkdirAll(dirs.Manifests(), 0o700), plant(path)); err != nil {
				t.Fatal(err)
			}
			if rec, err := c.Lookup(ref, platform.ARM); err == nil {
				t.Fatalf("Lookup gave %+v", rec)
			}
			if _, err := c.List(); name == "broken" && err != nil {
				t.Errorf("List: %v", err)
			}
			if err := c.Store(ref, record("x", platform.ARM)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Lookup(ref, platform.ARM); err != nil {
				t.Error(err)
			}
			if data, _ := os.ReadFile(outside); string(data) != "untouched" {
				t.Errorf("the file outside became %q", data)
			}
		})
	}
}

func TestConfigIsRestoredFromBlob(t *testing.T) {
	c, dirs := newCache(t)
	ref, rec := mustRef(t, "x"), record("x", platform.ARM)
	if err := c.Store(ref, rec); err != nil {
		t.Fatal(err)
	}
	// Another program rewrites the record with its keys in another order.
	path := filepath.Join(dirs.Manifests(), ref.CacheKey(platform.ARM)+".json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(string(data), string(rec.Config), `{"os": "linux", "architecture": "amd64"}`, 1)
	if err := os.WriteFile(path, []byte(other), 0o600); err != nil || other == string(data) {
		t.Fatal(err)
	}
	got, err := c.Lookup(ref, platform.ARM)
	if err != nil || string(got.Config) != string(rec.Config) {
		t.Errorf("config %s, %v", got.Config, err)
	}
}

// TestPaddedManifest: white space around a manifest belongs to its digest.
func TestPaddedManifest(t *testing.T) {
	c, _ := newCache(t)
	ref, rec := mustRef(t, "x"), record("x", platform.ARM)
	rec.Manifest = append(rec.Manifest, "\n\n"...)
	if err := c.Store(ref, rec); err != nil {
		t.Fatal(err)
	}
	for range 2 { // what was looked up can be stored again
		got, err := c.Lookup(ref, platform.ARM)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Manifest, rec.Manifest) || len(got.Extra) != 0 {
			t.Errorf("manifest %q, extra %v", got.Manifest, got.Extra)
		}
		if err := c.Store(ref, got); err != nil {
			t.Fatal(err)
		}
	}
	d := v1.Descriptor{Digest: digest.FromBytes(rec.Manifest), Size: int64(len(rec.Manifest))}
	if p, err := c.Partial(t.Context(), d, nil); !errors.Is(err, ErrCached) {
		t.Errorf("the manifest is not kept as a blob: %v, %v", p, err)
	}
}

func TestBlobIsVerified(t *testing.T) {
	for name, spoil := range map[string]string{"changed": "hellO", "shorter": "hell", "longer": "hello!", "empty": ""} {
		t.Run(name, func(t *testing.T) {
			c, dirs := newCache(t)
			d := put(t, c, "hello")
			if err := os.WriteFile(blobPath(dirs, d), []byte(spoil), 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := c.Blob(d).Open()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			var bad *DigestError
			if _, err := io.ReadAll(r); !errors.As(err, &bad) {
				t.Errorf("ReadAll: %v", err)
			}
			if c.Has(d) {
				t.Error("the damaged blob is still there")
			}
			if _, err := os.Stat(blobPath(dirs, d)); !errors.Is(err, fs.ErrNotExist) {
				t.Error("the damaged file is still there")
			}
		})
	}
	c, dirs := newCache(t)
	d := put(t, c, "hello")
	if data, err := c.ReadBlob(d, 5); err != nil || string(data) != "hello" {
		t.Errorf("ReadBlob = %q, %v", data, err)
	}
	if info, err := os.Stat(blobPath(dirs, d)); err != nil || info.Mode() != 0o600 {
		t.Errorf("blob's mode: %v, %v", info, err)
	}
	if _, err := c.ReadBlob(d, 4); err == nil {
		t.Error("ReadBlob ignores its limit")
	}
}

func TestCraftedDigest(t *testing.T) {
	c, dirs := newCache(t)
	put(t, c, "hello")
	for _, s := range []string{"sha256:../../x", "sha256:", "../x", "sha512:" + strings.Repeat("a", 128)} {
		d := v1.Descriptor{Digest: digest.Digest(s), Size: 1}
		if c.Has(d) {
			t.Errorf("Has(%s)", s)
		}
		if _, err := c.Blob(d).Open(); err == nil {
			t.Errorf("Open(%s) succeeds", s)
		}
		if _, err := c.Partial(t.Context(), d, nil); err == nil {
			t.Errorf("Partial(%s) succeeds", s)
		}
	}
	entries, err := os.ReadDir(dirs.Cache)
	if err != nil || len(entries) != 1 {
		t.Errorf("cache holds %v, %v", entries, err)
	}
}

func TestPartialResume(t *testing.T) {
	c, dirs := newCache(t)
	const data = "hello, world"
	d := descriptorOf(data)
	part := blobPath(dirs, d) + ".part"

	p, err := c.Partial(t.Context(), d, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := p.Resume(); n != 0 || err != nil {
		t.Fatalf("Resume of nothing = %d, %v", n, err)
	}
	if _, err := io.WriteString(p, data[:5]); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}

	if p, err = c.Partial(t.Context(), d, nil); err != nil {
		t.Fatal(err)
	}
	if n, err := p.Resume(); n != 5 || err != nil {
		t.Fatalf("Resume = %d, %v", n, err)
	}
	r, err := p.Reader()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.WriteString(p, data[5:]); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(p, "!"); err == nil {
		t.Error("more bytes than the blob has can be written")
	}
	if c.Has(d) {
		t.Error("the blob is there before Commit")
	}
	if err := errors.Join(p.Commit(), p.Close()); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, len(data))
	if _, err := r.ReadAt(buf, 0); err != nil || string(buf) != data {
		t.Errorf("Reader after Commit: %q, %v", buf, err)
	}
	if got, err := c.ReadBlob(d, 100); err != nil || string(got) != data {
		t.Errorf("blob is %q, %v", got, err)
	}
	if _, err := os.Stat(part); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("partial file remains: %v", err)
	}
	if _, err := c.Partial(t.Context(), d, nil); !errors.Is(err, ErrCached) {
		t.Errorf("Partial of a cached blob: %v", err)
	}
}

func TestPartialRejectsWrongBytes(t *testing.T) {
	c, dirs := newCache(t)
	d := descriptorOf("right")
	p, err := c.Partial(t.Context(), d, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{"wrong", "wr", "wrong and long"} {
		// Straight into File, as an archive reader may do.
		if err := errors.Join(p.Reset(), func() error { _, err := p.File.WriteString(wrong); return err }()); err != nil {
			t.Fatal(err)
		}
		var bad *DigestError
		if err := p.Commit(); !errors.As(err, &bad) {
			t.Errorf("Commit of %q: %v", wrong, err)
		}
		if c.Has(d) {
			t.Errorf("%q was promoted", wrong)
		}
	}
	if _, err := p.File.WriteString("right"); err != nil {
		t.Fatal(err)
	}
	if err := p.Commit(); err != nil {
		t.Errorf("Commit of the right bytes: %v", err)
	}

	// A closed, empty partial file leaves nothing behind.
	p, err = c.Partial(t.Context(), descriptorOf("other"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(dirs.Layers()); err != nil || len(entries) != 1 {
		t.Errorf("cache holds %v, %v", entries, err)
	}
}

func TestOversizedPartFileIsDropped(t *testing.T) {
	c, dirs := newCache(t)
	d := descriptorOf("abc")
	if err := os.MkdirAll(dirs.Layers(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blobPath(dirs, d)+".part", []byte("abcd"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := c.Partial(t.Context(), d, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if n, err := p.Resume(); n != 0 || err != nil {
		t.Errorf("Resume = %d, %v", n, err)
	}
}

func TestPartialWaitsForTheOther(t *testing.T) {
	c, dirs := newCache(t)
	other := OpenCache(dirs)
	d := descriptorOf("hello")
	p, err := c.Partial(t.Context(), d, nil)
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	if _, err := other.Partial(ctx, d, func() { cancel(cause) }); !errors.Is(err, cause) {
		t.Errorf("cancelled wait: %v", err)
	}
	waits, result := make(chan struct{}), make(chan error)
	go func() {
		_, err := other.Partial(context.Background(), d, func() { close(waits) })
		result <- err
	}()
	<-waits
	if err := p.Reset(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(p, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-result:
		if !errors.Is(err, ErrCached) {
			t.Errorf("the second one got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the second one waits for ever")
	}
}

func TestReaderDoesNotKeepTheLock(t *testing.T) {
	c, _ := newCache(t)
	d := descriptorOf("hello")
	p, err := c.Partial(t.Context(), d, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.Reader()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	again, err := c.Partial(ctx, d, nil)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestLock(t *testing.T) {
	c, dirs := newCache(t)
	a, err := c.Lock(Shared)
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Lock(Shared)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Lock(Exclusive); !errors.Is(err, ErrBusy) {
		t.Errorf("exclusive beside shared: %v", err)
	}
	if err := errors.Join(a(), b()); err != nil {
		t.Fatal(err)
	}
	x, err := c.Lock(Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Lock(Shared); !errors.Is(err, ErrBusy) {
		t.Errorf("shared beside exclusive: %v", err)
	}
	if err := x(); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		return // root may write anywhere
	}
	if err := errors.Join(os.Remove(filepath.Join(dirs.Cache, ".lock")), os.Chmod(dirs.Cache, 0o500)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Lock(Shared); err != nil {
		t.Errorf("shared lock of a cache that cannot be written: %v", err)
	}
	if _, err := c.Lock(Exclusive); err == nil {
		t.Error("exclusive lock of a cache that cannot be written")
	}
}

func TestImageClose(t *testing.T) {
	if err := (&Image{}).Close(); err != nil {
		t.Error(err)
	}
	failure := errors.New("x")
	if err := (&Image{Release: func() error { return failure }}).Close(); err != failure {
		t.Error(err)
	}
}
