// Package oci holds the pure data of images: references, manifests, indexes,
// configs, and the record that is stored with a container and in the manifest
// cache. It does no I/O.
//
// Everything it reads comes from a stranger (a registry, an archive, a state file
// that a guest could write), so it keeps three promises: a descriptor that leaves
// this package has a valid SHA-256 digest and a size that is not negative, counts
// are bounded, and the original bytes of manifests and configs survive, because
// their digests are taken over those bytes.
package oci

import (
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Bounds on what is accepted. Docker refuses images of more than 127 layers; the
// size of a manifest is what registries commonly allow (OCI distribution spec,
// "Pushing Manifests").
const (
	MaxManifestSize = 4 << 20
	MaxConfigSize   = 16 << 20
	MaxRecordSize   = 16 << 20
	maxLayers       = 1000
	maxIndexEntries = 1000
)

// errSchema1 is about Docker's first manifest format.
var errSchema1 = errors.New("this image is stored in Docker's old schema 1 format, which is not supported: it must be pushed again with a current tool")

// ParseDigest checks that s is a SHA-256 digest, the only kind used; its hex part is
// then safe to be a file name.
func ParseDigest(s string) (digest.Digest, error) {
	d := digest.Digest(s)
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return "", fmt.Errorf("bad digest %q: it must be sha256: and 64 lower-case hex digits", Clip(s))
	}
	return d, nil
}

// CheckDescriptor reports a digest or size that cannot be used.
func CheckDescriptor(d v1.Descriptor) error {
	if _, err := ParseDigest(string(d.Digest)); err != nil {
		return err
	}
	if d.Size < 0 {
		return fmt.Errorf("bad size %d of %s", d.Size, d.Digest)
	}
	return nil
}

// Clip keeps a stranger's text short enough for a message.
func Clip(s string) string {
	const limit = 120
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}
