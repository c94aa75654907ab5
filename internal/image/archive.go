package image

import (
	"context"

	"proot-distro/internal/platform"
	"proot-distro/internal/report"
)

// FromArchive reads an OCI layout or docker-save archive into the cache. ErrNotImage when the
// archive is neither (then it is a plain rootfs tarball).
func FromArchive(ctx context.Context, path string, arch platform.Arch, cache *Cache, rep report.Reporter) (*Image, error) {
	panic("")
}
