package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/oci"
	"proot-distro/internal/rootfs"
)

// An image for several platforms is one record for each architecture, as both programs know them, and
// beside them a file of the same naming, <key>.index, that holds the bytes of their OCI index, as
// served or as built. The key is made with "index" in the place of the architecture; the Python program
// reads *.json only. Images for other platforms that the index lists are kept as blobs alone.
//
// The index counts as long as it lists all the records of the name. So whoever gives
// one architecture a new image, be it the Python program, has not to know of the index.

// Index is an image for several platforms, as far as the cache has it.
type Index struct {
	Data    []byte // byte for byte
	Entries []IndexEntry
}

// IndexEntry is one platform's image, or what belongs to one.
type IndexEntry struct {
	v1.Descriptor
	// Record is nil when the cache does not have the image. It has no Arch when that is none of ours.
	Record *oci.Record
}

// Records are those of the entries that the cache has.
func (x *Index) Records() (records []*oci.Record) {
	for _, e := range x.Entries {
		if e.Record != nil {
			records = append(records, e.Record)
		}
	}
	return records
}

// Platforms names those that the cache has.
func (x *Index) Platforms() []string { return x.platforms(true) }

// Missing names the platforms that the cache does not have.
func (x *Index) Missing() []string { return x.platforms(false) }

func (x *Index) platforms(cached bool) (names []string) {
	for _, e := range x.Entries {
		switch {
		case (e.Record != nil) != cached, oci.IsAttestation(e.Descriptor):
		case cached && e.Record.Arch != "":
			names = append(names, string(e.Record.Arch))
		case e.Platform == nil:
			names = append(names, e.Digest.String())
		default:
			names = append(names, oci.PlatformName(*e.Platform))
		}
	}
	return names
}

// Cached is the index of what the cache has: itself, when that is all of it.
func (x *Index) Cached() (*Index, error) {
	var doc v1.Index
	if err := json.Unmarshal(x.Data, &doc); err != nil {
		return nil, fmt.Errorf("read image index: %w", err)
	}
	part := &Index{}
	doc.Manifests = nil
	for _, e := range x.Entries {
		if e.Record != nil {
			part.Entries = append(part.Entries, e)
			doc.Manifests = append(doc.Manifests, e.Descriptor)
		}
	}
	if len(part.Entries) == len(x.Entries) {
		return x, nil
	}
	var err error
	if part.Data, err = json.Marshal(doc); err != nil {
		return nil, fmt.Errorf("make image index: %w", err)
	}
	return part, nil
}

const indexSuffix = ".index"

func (c *Cache) indexName(ref oci.Ref) string {
	return path.Join(c.manifests, ref.CacheKey("index")+indexSuffix)
}

// StoreIndex keeps the index of an image whose records were stored before.
func (c *Cache) StoreIndex(ref oci.Ref, index []byte) error {
	if _, err := c.index(ref, index); err != nil {
		return fmt.Errorf("write cached image index: %w", err)
	}
	tree, err := c.open(true)
	if err != nil {
		return err
	}
	if err := tree.WriteFile(c.indexName(ref), index, 0o600); err != nil {
		return fmt.Errorf("write cached image index: %w", err)
	}
	return nil
}

// LookupIndex returns the index of an image for several platforms. The error is fs.ErrNotExist when there is
// none that counts.
func (c *Cache) LookupIndex(ref oci.Ref) (*Index, error) {
	tree, err := c.open(false)
	if err != nil {
		return nil, err
	}
	data, err := tree.ReadFile(c.indexName(ref), oci.MaxManifestSize)
	if errors.Is(err, rootfs.ErrUnsafe) || errors.Is(err, rootfs.ErrTooLarge) {
		err = fmt.Errorf("%w (%w)", err, fs.ErrNotExist)
	}
	var x *Index
	if err == nil {
		x, err = c.index(ref, data)
	}
	if err != nil {
		return nil, fmt.Errorf("read cached image index: %w", err)
	}
	return x, nil
}

// index finds the record of each entry; fs.ErrNotExist when the index cannot be understood, or does
// not list a record of the name.
func (c *Cache) index(ref oci.Ref, data []byte) (*Index, error) {
	doc, err := oci.ParseDocument(v1.MediaTypeImageIndex, data)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", err, fs.ErrNotExist)
	}
	if doc.Index == nil || len(doc.Index.Manifests) == 0 {
		return nil, fmt.Errorf("it lists no images: %w", fs.ErrNotExist)
	}
	named, err := c.records(ref)
	if err != nil {
		return nil, err
	}
	records := map[digest.Digest]*oci.Record{}
	for _, rec := range named {
		records[digest.FromBytes(rec.Manifest)] = rec
	}
	x := &Index{Data: data}
	listed := 0
	for _, d := range doc.Index.Manifests {
		e := IndexEntry{Descriptor: d, Record: records[d.Digest]}
		if e.Record != nil {
			listed++
		} else {
			e.Record = c.unnamedRecord(d)
		}
		x.Entries = append(x.Entries, e)
	}
	if listed < len(records) {
		return nil, fmt.Errorf("an image for one of its platforms is another one by now: %w", fs.ErrNotExist)
	}
	return x, nil
}

// unnamedRecord puts a record together for a manifest that is cached with all that it refers to; else it is
// nil.
func (c *Cache) unnamedRecord(d v1.Descriptor) *oci.Record {
	manifest, err := c.ReadBlob(d, oci.MaxManifestSize)
	if err != nil {
		return nil
	}
	config, layers, err := oci.Contents(manifest)
	if err != nil {
		return nil
	}
	rec := &oci.Record{Manifest: manifest}
	if rec.Config, err = c.ReadBlob(config, oci.MaxConfigSize); err != nil {
		return nil
	}
	for _, layer := range layers {
		if !c.Has(layer) {
			return nil
		}
	}
	return rec
}

// removeIndex forgets an index, if there is one.
func (c *Cache) removeIndex(tree *rootfs.FS, ref oci.Ref) error {
	if err := tree.Remove(c.indexName(ref)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove cached image index: %w", err)
	}
	return nil
}

// indexBlobs are the blobs that an index refers to, as far as its manifests are cached.
func (c *Cache) indexBlobs(index []byte) (blobs []digest.Digest) {
	doc, err := oci.ParseDocument(v1.MediaTypeImageIndex, index)
	if err != nil || doc.Index == nil {
		return nil
	}
	for _, d := range doc.Index.Manifests {
		if manifest, err := c.ReadBlob(d, oci.MaxManifestSize); err == nil {
			blobs = append(blobs, blobsOf(&oci.Record{Manifest: manifest})...)
		}
	}
	return blobs
}

// allIndexBlobs are those of all indexes in the cache.
func (c *Cache) allIndexBlobs() (blobs []digest.Digest, err error) {
	tree, err := c.open(false)
	var entries []rootfs.Entry
	if err == nil {
		entries, err = tree.ReadDir(c.manifests)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("list cached images: %w", err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name, indexSuffix) {
			continue
		}
		if index, err := tree.ReadFile(path.Join(c.manifests, e.Name), oci.MaxManifestSize); err == nil {
			blobs = append(blobs, c.indexBlobs(index)...)
		}
	}
	return blobs, nil
}
