package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"proot-distro/internal/host"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
)

// storeImage caches an image of the given layers.
func storeImage(t *testing.T, c *Cache, name string, arch platform.Arch, layers ...string) {
	t.Helper()
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","for":%q}`, name+string(arch))
	var list []string
	for _, l := range layers {
		d := put(t, c, l)
		list = append(list, fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}`, d.Digest, d.Size))
	}
	manifest := fmt.Sprintf(`{"schemaVersion":2,"config":{"digest":%q,"size":%d},"layers":[%s]}`,
		digest.FromString(config), len(config), strings.Join(list, ","))
	rec := &oci.Record{ImageRef: name, Arch: arch, Manifest: json.RawMessage(manifest), Config: json.RawMessage(config)}
	if err := c.Store(mustRef(t, name), rec); err != nil {
		t.Fatal(err)
	}
}

func blobNames(t *testing.T, dirs host.Dirs) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dirs.Layers())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestRemoveImage(t *testing.T) {
	c, dirs := newCache(t)
	storeImage(t, c, "a", platform.X86_64, "base", "only a", "built")
	storeImage(t, c, "b", platform.X86_64, "base", "only b")
	storeImage(t, c, "a", platform.ARM, "arm layer")
	part := blobPath(dirs, descriptorOf("only a")) + ".part"
	if err := os.WriteFile(part, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	index := fmt.Sprintf(`{"version":1,"entries":{"x":{"layer_digest":%q}}}`, digest.FromString("built"))
	if err := os.WriteFile(filepath.Join(dirs.Cache, "build_cache_index.json"), []byte(index), 0o600); err != nil {
		t.Fatal(err)
	}
	before := len(blobNames(t, dirs))
	var removed []string
	freed, err := c.RemoveImage(mustRef(t, "docker.io/library/a"), platform.X86_64, func(n string) { removed = append(removed, n) })
	if err != nil {
		t.Fatal(err)
	}
	// The layer, its partial download, manifest and config.
	if len(removed) != 4 || len(blobNames(t, dirs)) != before-4 || freed < int64(len("only a")+5) {
		t.Errorf("removed %q, freed %d", removed, freed)
	}
	for _, kept := range []string{"base", "built", "only b", "arm layer"} {
		if !c.Has(descriptorOf(kept)) {
			t.Errorf("layer %q is gone", kept)
		}
	}
	if c.Has(descriptorOf("only a")) || !slices.Contains(removed, filepath.Base(part)) {
		t.Errorf("left: %q", blobNames(t, dirs))
	}
	if _, err := c.Lookup(mustRef(t, "a"), platform.ARM); err != nil {
		t.Error(err)
	}
	if _, err := c.RemoveImage(mustRef(t, "a"), platform.X86_64, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("second time: %v", err)
	}
}

func TestRemoveImageKeepsBlobsWhenInDoubt(t *testing.T) {
	c, dirs := newCache(t)
	storeImage(t, c, "a", platform.X86_64, "layer")
	if err := os.WriteFile(filepath.Join(dirs.Cache, "build_cache_index.json"), []byte("{torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RemoveImage(mustRef(t, "a"), platform.X86_64, nil); err == nil {
		t.Error("no error")
	}
	if !c.Has(descriptorOf("layer")) {
		t.Error("a layer that a build may use is gone")
	}
}

func TestRemoveImageWhileInUse(t *testing.T) {
	c, _ := newCache(t)
	storeImage(t, c, "a", platform.X86_64, "layer")
	release, err := c.Lock(Shared)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.RemoveImage(mustRef(t, "a"), platform.X86_64, nil); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Lookup(mustRef(t, "a"), platform.X86_64); err != nil {
		t.Error(err)
	}
}
