package image

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
)

// Tag gives the image src the name dst too, for all its architectures and with its index. What
// else had that name loses it. typed is dst as the user wrote it. The error is fs.ErrNotExist when
// the cache has no such image.
func (c *Cache) Tag(src, dst oci.Ref, typed string) (archs []platform.Arch, err error) {
	records, err := c.records(src)
	if err != nil {
		return nil, err
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("image %s: %w", src, fs.ErrNotExist)
	}
	for _, rec := range records {
		archs = append(archs, rec.Arch)
	}
	index, err := c.LookupIndex(src)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if src.Canonical() == dst.Canonical() {
		return archs, nil
	}
	for _, rec := range records {
		if err := c.Store(dst, tagged(rec, src, dst, typed)); err != nil {
			return nil, err
		}
	}
	for _, arch := range platform.All() {
		if slices.Contains(archs, arch) {
			continue
		}
		if err := c.Remove(dst, arch); err != nil && !errors.Is(err, fs.ErrNotExist) {
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
