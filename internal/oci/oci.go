// Package oci holds the pure data of images: references, manifests, configs and
// the record that is stored with a container and in the manifest cache.
// It does no I/O.
package oci

import (
	"encoding/json"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/platform"
)

// Ref is a parsed image reference; Registry is "docker.io" for Docker Hub.
type Ref struct {
	Registry   string // "docker.io", "ghcr.io", "localhost:5000"
	Repository string // "library/ubuntu"
	Tag        string // "latest" when neither tag nor digest was given
	Digest     string // "sha256:…", empty without one
}

func ParseRef(s string) (Ref, error)             { panic("") }
func (r Ref) String() string                     { panic("") } // familiar form: ubuntu:24.04
func (r Ref) Canonical() string                  { panic("") } // library/ubuntu:latest, ghcr.io/foo/bar:latest
func (r Ref) CacheKey(arch platform.Arch) string { panic("") } // 16 hex digits
func (r Ref) DefaultName() string                { panic("") }

// Record is manifest.json of a container, and (with Repo) an entry of the manifest cache.
type Record struct {
	ImageRef string
	Arch     platform.Arch
	Repo     string                     // manifest cache only
	Manifest json.RawMessage            // original bytes where known
	Config   json.RawMessage            // "image_config", original bytes where known
	Extra    map[string]json.RawMessage // unknown keys, kept
}

func ParseRecord(data []byte) (*Record, error)             { panic("") }
func (r *Record) Encode() ([]byte, error)                  { panic("") }
func (r *Record) Layers() ([]v1.Descriptor, error)         { panic("") }
func (r *Record) ConfigDescriptor() (v1.Descriptor, error) { panic("") }
func (r *Record) Image() (v1.Image, error)                 { panic("") }
