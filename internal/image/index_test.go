package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
)

// storeSeveral stores an image for two platforms, with its index.
func storeSeveral(t *testing.T, c *Cache, ref oci.Ref) []byte {
	t.Helper()
	images := []*Image{built(t, c, platform.X86_64, layerTar(t, "amd")), built(t, c, platform.ARM, layerTar(t, "arm"))}
	index, err := NewIndex(images)
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range images {
		if err := c.Store(ref, img.Record); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.StoreIndex(ref, index); err != nil {
		t.Fatal(err)
	}
	return index
}

func noIndex(t *testing.T, c *Cache, ref oci.Ref, why string) {
	t.Helper()
	if index, err := c.LookupIndex(ref); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: index %v, %v", why, index, err)
	}
}

func TestIndex(t *testing.T) {
	ref := mustRef(t, "app")
	c, dirs := newCache(t)
	noIndex(t, c, ref, "an empty cache")
	index := storeSeveral(t, c, ref)
	got, err := c.LookupIndex(ref)
	if err != nil || !bytes.Equal(got.Data, index) {
		t.Fatalf("index %v, %v", got, err)
	}
	records := got.Records()
	if len(records) != 2 || records[0].Arch != platform.X86_64 || records[1].Arch != platform.ARM {
		t.Errorf("records %v", records)
	}
	if list, err := c.List(); err != nil || len(list) != 2 {
		t.Errorf("listed are %d images, %v", len(list), err)
	}
	noIndex(t, c, mustRef(t, "app:other"), "another tag")

	// The other program replaces one of the images: it writes the record only.
	record := filepath.Join(dirs.Manifests(), ref.CacheKey(platform.ARM)+".json")
	old, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	other := built(t, c, platform.ARM, layerTar(t, "new")).Record
	data, err := other.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(record, data, 0o600); err != nil {
		t.Fatal(err)
	}
	noIndex(t, c, ref, "an index of images that were replaced")
	if err := os.WriteFile(record, old, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.LookupIndex(ref); err != nil {
		t.Error(err)
	}

	// What is stored or removed later ends it, even when the same image comes.
	if err := c.Store(ref, records[0]); err != nil {
		t.Fatal(err)
	}
	noIndex(t, c, ref, "an image that was stored alone")
	storeSeveral(t, c, ref)
	if err := c.Remove(ref, platform.ARM); err != nil {
		t.Fatal(err)
	}
	noIndex(t, c, ref, "an image that was removed for one architecture")
	foreign := built(t, c, platform.RISCV64, layerTar(t, "riscv")).Record
	if err := c.Store(ref, foreign); err != nil {
		t.Fatal(err)
	}
	if err := c.StoreIndex(ref, index); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an index that does not list an image of the name is stored: %v", err)
	}
}

// TestIndexInPart: of an image for many platforms the cache has some, with or without a record.
func TestIndexInPart(t *testing.T) {
	ref := mustRef(t, "app")
	c, dirs := newCache(t)
	archs := []platform.Arch{platform.X86_64, platform.ARM, platform.RISCV64, platform.I686}
	var images []*Image
	for _, arch := range archs {
		images = append(images, built(t, c, arch, layerTar(t, string(arch))))
	}
	data, err := NewIndex(images)
	if err != nil {
		t.Fatal(err)
	}
	var doc v1.Index
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	note := doc.Manifests[2] // the cache has its manifest, but not as an image of a platform
	note.Digest, note.Platform = digest.FromString("note"), &v1.Platform{OS: "unknown", Architecture: "unknown"}
	doc.Manifests = append(doc.Manifests, note)
	doc.Annotations = map[string]string{"kept": "yes"}
	if data, err = json.Marshal(doc); err != nil {
		t.Fatal(err)
	}
	for _, img := range images[:3] { // the last one is a blob only, and lacks its layer
		for _, part := range [][]byte{img.Record.Manifest, img.Record.Config} {
			if _, err := c.WriteBlob(part); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := c.WriteBlob(images[3].Record.Manifest); err != nil {
		t.Fatal(err)
	}
	if err := c.Store(ref, images[0].Record); err != nil {
		t.Fatal(err)
	}
	if err := c.StoreIndex(ref, data); err != nil {
		t.Fatal(err)
	}
	x, err := c.LookupIndex(ref)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"x86_64", "linux/arm/v7", "linux/riscv64"}, x.Platforms()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"linux/386"}, x.Missing()); diff != "" {
		t.Error(diff)
	}
	part, err := x.Cached()
	if err != nil {
		t.Fatal(err)
	}
	var reduced v1.Index
	if err := json.Unmarshal(part.Data, &reduced); err != nil || len(part.Records()) != 3 {
		t.Fatalf("%d records, %v", len(part.Records()), err)
	}
	doc.Manifests = doc.Manifests[:3]
	if diff := cmp.Diff(doc, reduced); diff != "" {
		t.Error(diff)
	}
	if whole, err := part.Cached(); err != nil || whole != part {
		t.Errorf("what is complete was changed: %v", err)
	}

	// Nobody takes its blobs for orphans, until it is removed.
	if freed, err := c.Clear(ClearRequest{Orphans: true, Removed: func(name string) { t.Log(name) }}); err != nil || freed != 0 {
		t.Errorf("%d bytes freed, %v", freed, err)
	}
	if x, err = c.LookupIndex(ref); err != nil || len(x.Records()) != 3 {
		t.Fatalf("%v, %v", x, err)
	}
	if _, err := c.RemoveImage(ref, platform.X86_64, func(string) {}); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dirs.Layers()); err != nil || len(left) != 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestHostileIndex(t *testing.T) {
	ref := mustRef(t, "app")
	c, dirs := newCache(t)
	storeSeveral(t, c, ref)
	file := filepath.Join(dirs.Manifests(), ref.CacheKey("index")+".index")
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.Rename(file, outside); err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func() error{
		"a link":     func() error { return os.Symlink(outside, file) },
		"no JSON":    func() error { return os.WriteFile(file, []byte("{"), 0o600) },
		"no images":  func() error { return os.WriteFile(file, []byte(`{"manifests":[]}`), 0o600) },
		"a manifest": func() error { return os.WriteFile(file, record("x", platform.ARM).Manifest, 0o600) },
		"other images": func() error {
			return os.WriteFile(file, []byte(`{"manifests":[{"digest":"`+digest.FromString("x").String()+`","size":1}]}`), 0o600)
		},
	} {
		if err := put(); err != nil {
			t.Fatal(err)
		}
		noIndex(t, c, ref, name)
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTag(t *testing.T) {
	src, dst := mustRef(t, "app"), mustRef(t, "localhost:5000/team/app:1")
	c, _ := newCache(t)
	if _, err := c.Tag(src, dst, "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("tag of nothing: %v", err)
	}
	index := storeSeveral(t, c, src)
	if err := c.Store(dst, built(t, c, platform.RISCV64, layerTar(t, "old")).Record); err != nil {
		t.Fatal(err)
	}
	archs, err := c.Tag(src, dst, "as typed")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]platform.Arch{platform.ARM, platform.X86_64}, archs); diff != "" {
		t.Error(diff)
	}
	got, err := c.LookupIndex(dst)
	if err != nil || !bytes.Equal(got.Data, index) {
		t.Fatalf("index %v, %v", got, err)
	}
	for _, rec := range got.Records() {
		if rec.ImageRef != "as typed" || rec.Repo != "team/app" {
			t.Errorf("record of %q in %q", rec.ImageRef, rec.Repo)
		}
		if diff := cmp.Diff([]oci.Ref{{Registry: oci.DockerHub, Repository: "library/app"}}, rec.Origins()); diff != "" {
			t.Error(diff)
		}
	}
	if _, err := c.Lookup(dst, platform.RISCV64); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what had the name keeps it: %v", err)
	}

	// Onto itself nothing changes; without an index the name has none any more.
	if _, err := c.Tag(dst, dst, "x"); err != nil {
		t.Error(err)
	}
	if _, err := c.LookupIndex(dst); err != nil {
		t.Error(err)
	}
	single := mustRef(t, "single")
	if err := c.Store(single, built(t, c, platform.ARM, layerTar(t, "one")).Record); err != nil {
		t.Fatal(err)
	}
	if archs, err := c.Tag(single, dst, "y"); err != nil || len(archs) != 1 {
		t.Errorf("tag of one architecture: %v, %v", archs, err)
	}
	noIndex(t, c, dst, "a name that was given anew")
	if records, err := c.records(dst); err != nil || len(records) != 1 {
		t.Errorf("architectures %v, %v", records, err)
	}
}
