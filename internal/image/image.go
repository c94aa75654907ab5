// Package image is the local cache of images: layer blobs and resolved
// manifests, in the layout that the Python program reads and writes; and images inside archives.
package image

import (
	"io"
	"os"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/host"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
)

// Blob is one layer: cached, or still on its way. Open gives the blob's bytes as they become
// available; Read fails with a *DigestError at the end when they are not what the digest says.
type Blob interface {
	Descriptor() v1.Descriptor
	Open() (io.ReadCloser, error)
}

// Image is what install unpacks.
type Image struct {
	Record *oci.Record
	Layers []Blob // lowest first
}

type DigestError struct {
	What      string // "layer"
	Want, Got string
}

func (e *DigestError) Error() string { panic("") }

// Cache is $BASE_CACHE_DIR.
type Cache struct{}

func OpenCache(dirs host.Dirs) (*Cache, error)                               { panic("") } // creates directories lazily
func (c *Cache) Lookup(ref oci.Ref, arch platform.Arch) (*oci.Record, error) { panic("") } // fs.ErrNotExist
func (c *Cache) Store(ref oci.Ref, rec *oci.Record) error                    { panic("") }
func (c *Cache) Has(d v1.Descriptor) bool                                    { panic("") } // by size; bytes are verified when read
func (c *Cache) Blob(d v1.Descriptor) Blob                                   { panic("") } // a cached layer; a corrupt one is deleted when found out
func (c *Cache) Partial(d v1.Descriptor) (*Partial, error)                   { panic("") } // flocked oci_layers/sha256_<hex>.part
func (c *Cache) List() ([]*oci.Record, error)                                { panic("") }
func (c *Cache) Remove(ref oci.Ref, arch platform.Arch) error                { panic("") }

// Partial is a blob on its way into the cache.
type Partial struct{ File *os.File }

func (p *Partial) Commit() error { panic("") } // verifies size and SHA-256, then renames
func (p *Partial) Close() error  { panic("") } // keeps the bytes for the next run
