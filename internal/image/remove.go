package image

import (
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
)

// RemoveImage deletes an image from the cache, and those of its layers that no
// other cached image and no step of a build shares. It returns the bytes freed;
// removed is told every deleted file.
func (c *Cache) RemoveImage(ref oci.Ref, arch platform.Arch, removed func(name string)) (freed int64, err error) {
	panic("")
}
