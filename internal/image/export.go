package image

import (
	"context"
	"errors"
	"io"

	"proot-distro/internal/oci"
)

// Export is what an archive holds under some names: one image, or an index of images for
// several platforms.
type Export struct {
	Names  []oci.Ref // may be empty
	Images []*Image
	Index  []byte // lists Images, see [NewIndex]; nil for a single image
}

// NewIndex makes the OCI index of images for several platforms, in the order given.
func NewIndex(images []*Image) ([]byte, error) {
	return nil, errors.New("make index: not there yet")
}

// ExportOCI writes an archive, a tar stream, that is both an OCI image layout and what
// `docker load` reads. Of several platforms old versions of Docker see the first.
func ExportOCI(ctx context.Context, w io.Writer, exports []Export) error {
	return errors.New("export image: not there yet")
}

// ExportFile is [ExportOCI] into a file, compressed as its name says (.tar, .tar.gz, .tar.xz,
// .tar.zst, …). The file appears when it is complete.
func ExportFile(ctx context.Context, filename string, exports []Export) error {
	return errors.New("export image: not there yet")
}
