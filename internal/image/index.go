package image

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/rootfs"
)

// An image for several platforms is one record for each architecture, as both programs know them, and
// beside them a file of the same naming, <key>.index, that holds the bytes of their OCI index.
// The key is made with "index" in the place of the architecture; the Python program
// reads *.json only.
//
// The index counts as long as all its manifests are those of the records. So whoever gives
// one architecture a new image, be it the Python program, has not to know of the index.

func (c *Cache) indexName(ref oci.Ref) string {
	return path.Join(c.manifests, ref.CacheKey("index")+".index")
}

// StoreIndex keeps the index of an image whose records were stored before.
func (c *Cache) StoreIndex(ref oci.Ref, index []byte) error {
	if _, err := c.indexRecords(ref, index); err != nil {
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

// LookupIndex returns the index of an image for several platforms, byte for byte, and the records
// of its entries in their order. The error is fs.ErrNotExist when there is none that counts.
func (c *Cache) LookupIndex(ref oci.Ref) (index []byte, records []*oci.Record, err error) {
	tree, err := c.open(false)
	if err != nil {
		return nil, nil, err
	}
	index, err = tree.ReadFile(c.indexName(ref), oci.MaxManifestSize)
	if errors.Is(err, rootfs.ErrUnsafe) {
		return nil, nil, fmt.Errorf("read cached image index: %w (%w)", err, fs.ErrNotExist)
	} else if err != nil {
		return nil, nil, fmt.Errorf("read cached image index: %w", err)
	}
	records, err = c.indexRecords(ref, index)
	if err != nil {
		return nil, nil, fmt.Errorf("read cached image index: %w", err)
	}
	return index, records, nil
}

// indexRecords finds the record of each entry; fs.ErrNotExist when one has another manifest
// by now, or the index cannot be understood.
func (c *Cache) indexRecords(ref oci.Ref, index []byte) ([]*oci.Record, error) {
	doc, err := oci.ParseDocument(v1.MediaTypeImageIndex, index)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", err, fs.ErrNotExist)
	}
	if doc.Index == nil || len(doc.Index.Manifests) == 0 {
		return nil, fmt.Errorf("it lists no images: %w", fs.ErrNotExist)
	}
	var records []*oci.Record
	for _, d := range doc.Index.Manifests {
		var arch platform.Arch
		if d.Platform != nil {
			arch, _ = platform.FromOCI(d.Platform.Architecture, d.Platform.Variant)
		}
		rec, err := c.Lookup(ref, arch)
		if err != nil {
			return nil, err
		}
		if digest.FromBytes(rec.Manifest) != d.Digest {
			return nil, fmt.Errorf("the image for %s is another one by now: %w", arch, fs.ErrNotExist)
		}
		records = append(records, rec)
	}
	return records, nil
}

// removeIndex forgets an index, if there is one.
func (c *Cache) removeIndex(tree *rootfs.FS, ref oci.Ref) error {
	if err := tree.Remove(c.indexName(ref)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove cached image index: %w", err)
	}
	return nil
}
