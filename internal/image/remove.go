package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/rootfs"
)

// buildIndex names, below the cache, the index of layers that build steps made.
const (
	buildIndex    = "build_cache_index.json"
	maxBuildIndex = 16 << 20
)

// RemoveImage deletes an image from the cache, and those of its blobs that no other
// cached image and no build step shares. It returns the bytes freed; removed is told
// every deleted file. The error is fs.ErrNotExist when the cache has no such image,
// and [ErrBusy] while another command uses the cache.
func (c *Cache) RemoveImage(ref oci.Ref, arch platform.Arch, removed func(name string)) (freed int64, err error) {
	rec, err := c.Lookup(ref, arch)
	if err != nil {
		return 0, err
	}
	release, err := c.Lock(Exclusive)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, release()) }()
	doomed := blobsOf(rec)
	if index, err := c.LookupIndex(ref); err == nil {
		doomed = append(doomed, c.indexBlobs(index.Data)...)
	}
	// The record goes first: what an interruption leaves are blobs that nothing
	// names, never an image without its blobs.
	if err := c.Remove(ref, arch); err != nil {
		return 0, err
	}
	keep, err := c.referenced()
	if err != nil {
		return 0, err
	}
	dir, err := c.dir(c.layers, false)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	defer dir.Close()
	for _, d := range doomed {
		if keep[d] {
			continue
		}
		n, err := removeBlob(dir, d, removed)
		freed += n
		if err != nil {
			return freed, err
		}
	}
	return freed, nil
}

// referenced collects the blobs that images and build steps in the cache use.
func (c *Cache) referenced() (map[digest.Digest]bool, error) {
	keep, err := c.imageBlobs()
	if err != nil {
		return nil, err
	}
	built, err := c.builtBlobs()
	if err != nil {
		// Its layers cannot be told from others, and no blob may be lost.
		return nil, fmt.Errorf("the image is forgotten but its layers stay: %w", err)
	}
	maps.Copy(keep, built)
	return keep, nil
}

// imageBlobs are the blobs of cached images.
func (c *Cache) imageBlobs() (map[digest.Digest]bool, error) {
	records, err := c.List()
	if err != nil {
		return nil, err
	}
	blobs, err := c.allIndexBlobs()
	if err != nil {
		return nil, err
	}
	for _, rec := range records {
		blobs = append(blobs, blobsOf(rec)...)
	}
	used := map[digest.Digest]bool{}
	for _, d := range blobs {
		used[d] = true
	}
	return used, nil
}

// builtBlobs are the layers of build steps.
func (c *Cache) builtBlobs() (map[digest.Digest]bool, error) {
	tree, err := c.open(false)
	if err != nil {
		return nil, err
	}
	data, err := tree.ReadFile(buildIndex, maxBuildIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var index struct {
		Entries map[string]struct {
			Layer digest.Digest `json:"layer_digest"`
		} `json:"entries"`
	}
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", buildIndex, err)
	}
	built := map[digest.Digest]bool{}
	for _, step := range index.Entries {
		built[step.Layer] = true
	}
	return built, nil
}

// blobsOf lists what is kept as a blob for a record: its layers, and the original
// bytes of its config and manifest.
func blobsOf(rec *oci.Record) []digest.Digest {
	blobs := []digest.Digest{digest.FromBytes(rec.Manifest)}
	config, layers, err := oci.Contents(rec.Manifest)
	if err != nil {
		return blobs // nothing of it was ever fetched
	}
	for _, d := range append(layers, config) {
		blobs = append(blobs, d.Digest)
	}
	return blobs
}

// removeBlob deletes a blob, or what was downloaded of it.
func removeBlob(dir *rootfs.Dir, d digest.Digest, removed func(string)) (freed int64, err error) {
	name, err := blobName(v1.Descriptor{Digest: d})
	if err != nil {
		return 0, nil // nothing was ever kept under such a digest
	}
	for _, file := range []string{name, name + ".part"} {
		info, err := dir.Lstat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = dir.Remove(file)
		}
		if err != nil {
			return freed, fmt.Errorf("remove cached layer: %w", err)
		}
		freed += info.Size
		removed(file)
	}
	return freed, nil
}
