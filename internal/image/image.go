// Package image is the local cache of images: layer blobs and resolved
// manifests, in the layout that the Python program reads and writes, and beside them
// layers unpacked for builds. It also reads and writes images inside archives.
//
// Invariants: a file named sha256_<hex> was verified when it got that name, and is
// verified again whenever it is read, so what reaches a container is what its digest
// says. The cache directories are reached without following links, and are created
// only when something is stored: a command that finds all it needs writes nothing.
package image

import (
	"fmt"
	"io"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/oci"
)

// Blob is one layer: cached, or still on its way. Open gives the blob's bytes as they become
// available; Read fails with a *DigestError at the end when they are not what the digest says.
// So the bytes count only once the reader has returned io.EOF: read on after the end of the tar stream.
type Blob interface {
	Descriptor() v1.Descriptor
	Open() (io.ReadCloser, error)
}

// Image is what install unpacks.
type Image struct {
	Record *oci.Record
	Layers []Blob // lowest first
	// Release is what Close runs; nil when there is nothing to do.
	Release func() error
}

// Close ends what works for the image behind the scenes: downloads that still run are
// stopped, waited for, and what they fetched is kept for the next time. Close the layers'
// readers first. An image must be closed after use; its Record stays valid.
func (i *Image) Close() error {
	if i.Release == nil {
		return nil
	}
	return i.Release()
}

// DigestError says that bytes are not the ones that were asked for.
type DigestError struct {
	What      string // "layer", "cached layer", "manifest"
	Want, Got string // digests; Got may be a description: "3 bytes"
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("%s is damaged: it should be %s but is %s", e.What, e.Want, e.Got)
}
