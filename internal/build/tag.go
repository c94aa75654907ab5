package build

import (
	"fmt"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/image"
	"proot-distro/internal/oci"
)

// Tag is a name for an image.
type Tag struct {
	Ref   oci.Ref
	Typed string // as the user wrote it
}

// ID is the image's: the digest of its config.
func (r Result) ID() digest.Digest { return digest.FromBytes(r.Record.Config) }

// Descriptor describes the image's manifest.
func (r Result) Descriptor() v1.Descriptor {
	d := v1.Descriptor{
		MediaType: v1.MediaTypeImageManifest, Digest: digest.FromBytes(r.Record.Manifest), Size: int64(len(r.Record.Manifest)),
	}
	d.Platform = &v1.Platform{OS: "linux"}
	d.Platform.Architecture, d.Platform.Variant = r.Arch.OCI()
	return d
}

// Tag gives the results names in the cache of images.
func (b *Builder) Tag(results []Result, tags []Tag) error {
	index, err := Index(results)
	if err != nil {
		return err
	}
	for _, tag := range tags {
		for _, r := range results {
			rec := *r.Record
			rec.ImageRef, rec.Repo = tag.Typed, tag.Ref.Repository
			if err := b.Cache.Store(tag.Ref, &rec); err != nil {
				return fmt.Errorf("store image %s: %w", tag.Typed, err)
			}
		}
		if index != nil {
			if err := b.Cache.StoreIndex(tag.Ref, index); err != nil {
				return fmt.Errorf("store image %s: %w", tag.Typed, err)
			}
		}
	}
	return nil
}

// Index is the image index of results for several platforms; nil for a single one.
func Index(results []Result) ([]byte, error) {
	if len(results) == 1 {
		return nil, nil
	}
	images := make([]*image.Image, len(results))
	for i, r := range results {
		images[i] = r.Image
	}
	return image.NewIndex(images)
}

// NewExport gives what an archive of the results holds.
func NewExport(results []Result, tags []Tag) (image.Export, error) {
	index, err := Index(results)
	if err != nil {
		return image.Export{}, err
	}
	x := image.Export{Index: index}
	for _, r := range results {
		x.Images = append(x.Images, r.Image)
	}
	for _, tag := range tags {
		x.Names = append(x.Names, tag.Ref)
	}
	return x, nil
}
