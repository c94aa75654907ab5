// Package registry fetches images from container registries and sends them there, as the OCI
// distribution specification and Docker's token specification describe, and searches Docker Hub.
//
// Everything that a registry says is checked before it counts: documents against
// their digests and size limits, layers while they stream into the cache. Credentials go
// to the registry and its token server only. What is cached is never fetched: an
// image that is there in full costs no request at all.
//
// Accounts (Docker's config.json, credential helpers) are go-containerregistry's and
// Docker's code; the way a layer is downloaded, resumed and read while it still grows
// is ours.
package registry

import (
	"net/http"

	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/report"
)

// Request is what to fetch, and how.
type Request struct {
	Ref      oci.Ref
	Typed    string // what the user typed, for the record
	Arch     platform.Arch
	Cache    *image.Cache
	Insecure bool // accept bad certificates and plain http; loopback registries may always do so
	Auth     Auth
	Report   report.Reporter
	Version  string // of this program, for User-Agent
	Refresh  bool   // ask the registry, whatever manifest is cached
	// Transport replaces the network, in tests.
	Transport http.RoundTripper

	pace pace
}
