package image

import (
	"errors"
	"fmt"
	"io/fs"

	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
)

// Architectures are those that ref is cached for.
func (c *Cache) Architectures(ref oci.Ref) (archs []platform.Arch, err error) {
	for _, arch := range platform.All() {
		_, err := c.Lookup(ref, arch)
		if err == nil {
			archs = append(archs, arch)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return archs, nil
}

// Tag gives the image src the name dst too, for all its architectures and with its index. What
// else had that name loses it. typed is dst as the user wrote it. The error is fs.ErrNotExist when
// the cache has no such image.
func (c *Cache) Tag(src, dst oci.Ref, typed string) ([]platform.Arch, error) {
	archs, err := c.Architectures(src)
	if err != nil {
		return nil, err
	}
	if len(archs) == 0 {
		return nil, fmt.Errorf("image %s: %w", src, fs.ErrNotExist)
	}
	index, err := c.LookupIndex(src)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if src.Canonical() == dst.Canonical() {
		return archs, nil
	}
	for _, arch := range platform.All() {
		rec, err := c.Lookup(src, arch)
		switch {
		case err == nil:
			err = c.Store(dst, tagged(rec, src, dst, typed))
		case errors.Is(err, fs.ErrNotExist):
			if err = c.Remove(dst, arch); errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
		}
		if err != nil {
			return nil, err
		}
	}
	if index == nil {
		return archs, nil
	}
	return archs, c.StoreIndex(dst, index.Data)
}

// tagged is src's record under another name. It remembers where its layers came from.
func tagged(rec *oci.Record, src, dst oci.Ref, typed string) *oci.Record {
	named := *rec
	named.ImageRef, named.Repo = typed, dst.Repository
	named.AddOrigins(src)
	return &named
}
