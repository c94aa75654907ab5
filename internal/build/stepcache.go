package build

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"proot-distro/internal/host"
	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/rootfs"
)

const (
	indexFile    = "build_cache_index.json"
	indexLock    = ".build_cache_index.lock"
	indexVersion = 1
	maxIndex     = 16 << 20 // bytes
	maxSteps     = 16384    // the oldest go first
)

// stepCache maps the keys of steps to the layers that they made, in the form that the Python
// program reads and writes. Other processes may use the same index.
type stepCache struct {
	dirs    host.Dirs
	entries map[string]stepEntry
}

// stepEntry is a step's outcome. One that changed nothing has no layer.
type stepEntry struct {
	LayerDigest digest.Digest   `json:"layer_digest"`
	DiffID      digest.Digest   `json:"diff_id"`
	Size        int64           `json:"size"`
	ConfigPatch json.RawMessage `json:"image_config_patch"`
	Created     string          `json:"created"` // RFC 3339
}

type stepIndex struct {
	Version int                  `json:"version"`
	Entries map[string]stepEntry `json:"entries"`
}

// openStepCache reads the index. One that cannot be understood counts as empty.
func openStepCache(dirs host.Dirs) (*stepCache, error) {
	c := &stepCache{dirs: dirs}
	tree, err := rootfs.OpenState(dirs.Runtime, dirs.Cache, false)
	if errors.Is(err, fs.ErrNotExist) {
		c.entries = map[string]stepEntry{}
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open step cache: %w", err)
	}
	defer tree.Close()
	c.entries, err = readIndex(tree)
	return c, err
}

func readIndex(tree *rootfs.FS) (map[string]stepEntry, error) {
	data, err := tree.ReadFile(indexFile, maxIndex)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, rootfs.ErrUnsafe), errors.Is(err, rootfs.ErrTooLarge):
		return map[string]stepEntry{}, nil
	case err != nil:
		return nil, fmt.Errorf("read step cache: %w", err)
	}
	var index stepIndex
	if json.Unmarshal(data, &index) != nil || index.Version != indexVersion || index.Entries == nil {
		return map[string]stepEntry{}, nil
	}
	return index.Entries, nil
}

// find gives what a step made, if all of it is still there.
func (c *stepCache) find(key string, cache *image.Cache) (stepEntry, bool) {
	e, ok := c.entries[key]
	if !ok || e.LayerDigest == "" {
		return e, ok
	}
	if _, err := oci.ParseDigest(string(e.DiffID)); err != nil {
		return e, false
	}
	return e, cache.Has(e.descriptor())
}

// record keeps a step's outcome, beside what other processes have recorded meanwhile.
func (c *stepCache) record(key string, e stepEntry) error {
	c.entries[key] = e
	if err := c.write(key, e); err != nil {
		return fmt.Errorf("write step cache: %w", err)
	}
	return nil
}

func (c *stepCache) write(key string, e stepEntry) error {
	tree, err := rootfs.OpenState(c.dirs.Runtime, c.dirs.Cache, true)
	if err != nil {
		return err
	}
	defer tree.Close()
	lock, err := lockFile(tree, indexLock)
	if err != nil {
		return err
	}
	defer lock.Close()
	entries, err := readIndex(tree)
	if err != nil {
		return err
	}
	entries[key] = e
	trim(entries)
	data, err := json.Marshal(stepIndex{indexVersion, entries})
	if err != nil {
		return err
	}
	return tree.WriteFile(indexFile, data, 0o600)
}

// lockFile waits for the exclusive lock of a file; Close releases it.
func lockFile(tree *rootfs.FS, name string) (*os.File, error) {
	dir, base, err := tree.Parent(name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	f, err := dir.OpenFile(base, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			return f, nil
		}
		if err != unix.EINTR {
			f.Close()
			return nil, &fs.PathError{Op: "flock", Path: filepath.Base(name), Err: err}
		}
	}
}

// trim drops the oldest entries of an index that has grown too long.
func trim(entries map[string]stepEntry) {
	if len(entries) <= maxSteps {
		return
	}
	keys := make([]string, 0, len(entries))
	for key := range entries {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int { return cmp.Compare(entries[a].Created, entries[b].Created) })
	for _, key := range keys[:len(keys)-maxSteps*3/4] {
		delete(entries, key)
	}
}

func (e stepEntry) descriptor() v1.Descriptor {
	return v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: e.LayerDigest, Size: e.Size}
}

func (e stepEntry) created() time.Time {
	t, err := time.Parse(time.RFC3339Nano, e.Created)
	if err != nil {
		return time.Time{}
	}
	return t
}
