package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/host"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/rootfs"
)

// Cache is $BASE_CACHE_DIR. It is safe for concurrent use, also by several processes.
type Cache struct {
	// Command is what a [BusyError] of others shall call this process; "install".
	Command string

	base, path        string // see [rootfs.OpenState]
	layers, manifests string // names below path

	mu   sync.Mutex
	tree *rootfs.FS
}

// OpenCache names the cache; it touches no file yet.
func OpenCache(dirs host.Dirs) *Cache {
	return &Cache{
		base:      dirs.Runtime,
		path:      dirs.Cache,
		layers:    filepath.Base(dirs.Layers()),
		manifests: filepath.Base(dirs.Manifests()),
	}
}

// open returns the cache's tree. Without create the directory may be missing: fs.ErrNotExist.
func (c *Cache) open(create bool) (*rootfs.FS, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tree != nil {
		return c.tree, nil
	}
	tree, err := rootfs.OpenState(c.base, c.path, create)
	if err != nil {
		return nil, fmt.Errorf("open image cache: %w", err)
	}
	c.tree = tree
	return tree, nil
}

// dir opens a directory of the cache.
func (c *Cache) dir(name string, create bool) (*rootfs.Dir, error) {
	tree, err := c.open(create)
	if err != nil {
		return nil, err
	}
	if create {
		if err := tree.MkdirAll(name, 0o700); err != nil {
			return nil, fmt.Errorf("create image cache: %w", err)
		}
	}
	d, err := tree.OpenDir(name)
	if err != nil {
		return nil, fmt.Errorf("open image cache: %w", err)
	}
	return d, nil
}

func (c *Cache) recordName(ref oci.Ref, arch platform.Arch) string {
	return path.Join(c.manifests, ref.CacheKey(arch)+".json")
}

// Lookup returns the resolved image of ref, or an error that is fs.ErrNotExist when the
// cache has none. A file that cannot be understood counts as none: pulling replaces it.
func (c *Cache) Lookup(ref oci.Ref, arch platform.Arch) (*oci.Record, error) {
	tree, err := c.open(false)
	if err != nil {
		return nil, err
	}
	rec, err := c.read(tree, c.recordName(ref, arch))
	if err != nil {
		return nil, err
	}
	if rec.Arch != arch {
		return nil, fmt.Errorf("cached image %s is for %s: %w", ref, rec.Arch, fs.ErrNotExist)
	}
	return rec, nil
}

// records are those of all architectures that ref is cached for, in the order of [platform.All].
func (c *Cache) records(ref oci.Ref) (records []*oci.Record, err error) {
	for _, arch := range platform.All() {
		rec, err := c.Lookup(ref, arch)
		if err == nil {
			records = append(records, rec)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return records, nil
}

func (c *Cache) read(tree *rootfs.FS, name string) (*oci.Record, error) {
	data, err := tree.ReadFile(name, oci.MaxRecordSize)
	if errors.Is(err, rootfs.ErrUnsafe) || errors.Is(err, rootfs.ErrTooLarge) {
		return nil, fmt.Errorf("read cached manifest: %w (%w)", err, fs.ErrNotExist)
	} else if err != nil {
		return nil, fmt.Errorf("read cached manifest: %w", err)
	}
	rec, err := oci.ParseRecord(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w (%w)", name, err, fs.ErrNotExist)
	}
	c.restoreConfig(rec)
	c.restoreManifest(rec)
	return rec, nil
}

// restoreConfig puts the original bytes of the config into a record that another
// program has reformatted, if they are kept as a blob.
func (c *Cache) restoreConfig(rec *oci.Record) {
	d, err := rec.ConfigDescriptor()
	if err != nil || digest.FromBytes(rec.Config) == d.Digest {
		return
	}
	if data, err := c.ReadBlob(d, oci.MaxConfigSize); err == nil {
		rec.Config = data
	}
}

// paddedKey is the record's key for the descriptor of a manifest that has white space around it, which no
// record can hold but the digest covers.
const paddedKey = "padded_manifest"

// notePadding makes a record from which restoreManifest finds the original bytes.
func notePadding(rec *oci.Record) (*oci.Record, error) {
	if len(bytes.TrimSpace(rec.Manifest)) == len(rec.Manifest) {
		return rec, nil
	}
	padded := v1.Descriptor{Digest: digest.FromBytes(rec.Manifest), Size: int64(len(rec.Manifest))}
	note, err := json.Marshal(padded)
	if err != nil {
		return nil, err
	}
	noted := *rec
	if noted.Extra = maps.Clone(rec.Extra); noted.Extra == nil {
		noted.Extra = map[string]json.RawMessage{}
	}
	noted.Extra[paddedKey] = note
	return &noted, nil
}

func (c *Cache) restoreManifest(rec *oci.Record) {
	var padded v1.Descriptor
	note, ok := rec.Extra[paddedKey]
	if delete(rec.Extra, paddedKey); len(rec.Extra) == 0 {
		rec.Extra = nil
	}
	if !ok || json.Unmarshal(note, &padded) != nil {
		return
	}
	// Another program may have put another manifest into the record.
	if data, err := c.ReadBlob(padded, oci.MaxManifestSize); err == nil && bytes.Equal(bytes.TrimSpace(data), rec.Manifest) {
		rec.Manifest = data
	}
}

// Store keeps a resolved image. The original bytes of manifest and config are kept as
// blobs too, for a later push. An index that ref had is forgotten.
func (c *Cache) Store(ref oci.Ref, rec *oci.Record) error {
	noted, err := notePadding(rec)
	if err != nil {
		return fmt.Errorf("write cached manifest: %w", err)
	}
	data, err := noted.Encode()
	if err != nil {
		return err
	}
	for _, original := range [][]byte{rec.Manifest, rec.Config} {
		if original == nil {
			continue
		}
		if _, err := c.WriteBlob(original); err != nil {
			return err
		}
	}
	tree, err := c.open(true)
	if err != nil {
		return err
	}
	if err := tree.MkdirAll(c.manifests, 0o700); err != nil {
		return fmt.Errorf("create image cache: %w", err)
	}
	if err := c.removeIndex(tree, ref); err != nil {
		return err
	}
	if err := tree.WriteFile(c.recordName(ref, rec.Arch), data, 0o600); err != nil {
		return fmt.Errorf("write cached manifest: %w", err)
	}
	return nil
}

// List returns all resolved images, sorted by reference and architecture; files that
// cannot be understood are left out.
func (c *Cache) List() ([]*oci.Record, error) {
	tree, err := c.open(false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	entries, err := tree.ReadDir(c.manifests)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("list cached images: %w", err)
	}
	var records []*oci.Record
	for _, e := range entries {
		if !strings.HasSuffix(e.Name, ".json") {
			continue
		}
		rec, err := c.read(tree, path.Join(c.manifests, e.Name))
		if err == nil {
			records = append(records, rec)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	sort.Slice(records, func(i, j int) bool {
		a, b := records[i], records[j]
		return a.ImageRef < b.ImageRef || a.ImageRef == b.ImageRef && a.Arch < b.Arch
	})
	return records, nil
}

// Remove forgets a resolved image; its blobs stay, since others may use them. The
// error is fs.ErrNotExist when the cache has no such image.
func (c *Cache) Remove(ref oci.Ref, arch platform.Arch) error {
	tree, err := c.open(false)
	if err != nil {
		return err
	}
	if err := tree.Remove(c.recordName(ref, arch)); err != nil {
		return fmt.Errorf("remove cached manifest: %w", err)
	}
	return c.removeIndex(tree, ref)
}
