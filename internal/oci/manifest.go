package oci

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"slices"
	"strings"
	"unicode/utf8"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/platform"
)

// Docker's media types (image manifest version 2, schema 2). OCI's are in package v1.
const (
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeDockerConfig   = "application/vnd.docker.container.image.v1+json"
)

// ManifestTypes are the media types that [ParseDocument] reads, for an Accept header.
func ManifestTypes() []string {
	return []string{v1.MediaTypeImageIndex, v1.MediaTypeImageManifest, MediaTypeDockerList, MediaTypeDockerManifest}
}

// Document is what a registry serves under a tag, or an archive in its index.json:
// either Manifest or Index is set.
type Document struct {
	Manifest *v1.Manifest
	Index    *v1.Index
}

// ParseDocument reads an OCI or Docker schema 2 image manifest or index. mediaType is
// what the source called it; it may be empty or plain wrong (application/json), in
// which case the document itself decides.
func ParseDocument(mediaType string, data []byte) (Document, error) {
	if len(data) > MaxManifestSize {
		return Document{}, fmt.Errorf("manifest is larger than %d MiB", MaxManifestSize>>20)
	}
	var probe struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     string          `json:"mediaType"`
		Manifests     json.RawMessage `json:"manifests"`
		Layers        json.RawMessage `json:"layers"`
		FSLayers      json.RawMessage `json:"fsLayers"`
	}
	if err := unmarshal(data, &probe); err != nil {
		return Document{}, fmt.Errorf("read manifest: %w", err)
	}
	if probe.SchemaVersion == 1 || probe.FSLayers != nil {
		return Document{}, errSchema1
	}
	isIndex, known := kindOf(probe.MediaType)
	if !known {
		isIndex, known = kindOf(mediaType)
	}
	if !known {
		isIndex = probe.Manifests != nil && probe.Layers == nil
	}
	if isIndex {
		index, err := parseIndex(data)
		return Document{Index: index}, err
	}
	manifest, err := parseManifest(data)
	return Document{Manifest: manifest}, err
}

// kindOf tells an index from a manifest by a media type.
func kindOf(mediaType string) (isIndex, known bool) {
	if t, _, err := mime.ParseMediaType(mediaType); err == nil {
		mediaType = t
	}
	switch mediaType {
	case v1.MediaTypeImageIndex, MediaTypeDockerList:
		return true, true
	case v1.MediaTypeImageManifest, MediaTypeDockerManifest:
		return false, true
	}
	return false, false
}

func parseIndex(data []byte) (*v1.Index, error) {
	var index v1.Index
	if err := unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("read image index: %w", err)
	}
	if len(index.Manifests) > maxIndexEntries {
		return nil, fmt.Errorf("image index has %d entries, more than %d", len(index.Manifests), maxIndexEntries)
	}
	for _, d := range index.Manifests {
		if err := CheckDescriptor(d); err != nil {
			return nil, fmt.Errorf("read image index: %w", err)
		}
	}
	return &index, nil
}

func parseManifest(data []byte) (*v1.Manifest, error) {
	var m v1.Manifest
	if err := unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if err := checkConfigType(m); err != nil {
		return nil, err
	}
	if err := checkBounds(m); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	for i, d := range m.Layers {
		if err := checkLayer(d); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	return &m, nil
}

// checkBounds checks what every manifest has to keep to, of an image or not.
func checkBounds(m v1.Manifest) error {
	if m.Config.Size > MaxConfigSize {
		return fmt.Errorf("the config of %d bytes is larger than %d MiB", m.Config.Size, MaxConfigSize>>20)
	}
	if len(m.Layers) > maxLayers {
		return fmt.Errorf("%d layers are more than %d", len(m.Layers), maxLayers)
	}
	if err := CheckDescriptor(m.Config); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	return nil
}

// Contents lists the blobs that a manifest of anything kept in a registry refers to, a container image
// or not: a config and layers, each with a valid digest. Layers that are kept elsewhere are left out.
func Contents(manifest []byte) (config v1.Descriptor, layers []v1.Descriptor, err error) {
	m, err := readContents(manifest)
	if err != nil {
		return v1.Descriptor{}, nil, fmt.Errorf("read manifest: %w", err)
	}
	return m.Config, slices.DeleteFunc(m.Layers, func(d v1.Descriptor) bool { return len(d.URLs) > 0 }), nil
}

func readContents(manifest []byte) (m v1.Manifest, err error) {
	if len(manifest) > MaxManifestSize {
		return m, fmt.Errorf("larger than %d MiB", MaxManifestSize>>20)
	}
	if err := unmarshal(manifest, &m); err != nil {
		return m, err
	}
	if m.SchemaVersion == 1 {
		return m, errSchema1
	}
	if err := checkBounds(m); err != nil {
		return m, err
	}
	for i, d := range m.Layers {
		if err := CheckDescriptor(d); err != nil {
			return m, fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	return m, nil
}

// checkConfigType refuses manifests that carry something else than a container image
// (Helm charts, signatures, …), which their config's media type tells.
func checkConfigType(m v1.Manifest) error {
	switch m.Config.MediaType {
	case v1.MediaTypeImageConfig, MediaTypeDockerConfig, "", "application/octet-stream", "application/json":
		return nil
	}
	kind := m.ArtifactType
	if kind == "" {
		kind = m.Config.MediaType
	}
	return fmt.Errorf("this is not a container image but something else kept in a registry (%q)", Clip(kind))
}

func checkLayer(d v1.Descriptor) error {
	if err := CheckDescriptor(d); err != nil {
		return err
	}
	if len(d.URLs) > 0 {
		return fmt.Errorf("%s is a foreign layer, kept outside the registry: such (Windows) images are not supported", d.Digest)
	}
	t, suffix, _ := strings.Cut(strings.TrimSuffix(d.MediaType, ".gzip"), "+")
	t = strings.TrimSuffix(t, ".zstd")
	base := []string{
		"", // left out by careless writers
		"application/vnd.oci.image.layer.v1.tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar",
		"application/vnd.docker.image.rootfs.diff.tar",
		"application/vnd.docker.image.rootfs.foreign.diff.tar",
	}
	if !slices.Contains(base, t) || !slices.Contains([]string{"", "gzip", "zstd"}, suffix) {
		return fmt.Errorf("layers of type %q are not supported", Clip(d.MediaType))
	}
	return nil
}

// unmarshal reads JSON that a later reader, ours or Python's, can read back.
func unmarshal(data []byte, v any) error {
	if !utf8.Valid(data) {
		return errors.New("not valid UTF-8")
	}
	err := json.Unmarshal(data, v)
	if wrong := new(json.UnmarshalTypeError); errors.As(err, &wrong) { // speaks of Go's types
		return fmt.Errorf("%s has a JSON %s in the wrong place", cmp.Or(Clip(wrong.Field), "it"), Clip(wrong.Value))
	}
	return err
}

// NoPlatformError says that an image does not exist for an architecture.
type NoPlatformError struct {
	Want platform.Arch
	Have []string // Docker's spelling: linux/amd64, linux/arm/v7
}

func (e *NoPlatformError) Error() string {
	if len(e.Have) == 0 {
		return fmt.Sprintf("image does not exist for %s", e.Want)
	}
	return fmt.Sprintf("image does not exist for %s, only for %s", e.Want, strings.Join(e.Have, ", "))
}

// Select picks the entry of an index that suits arch best. The entry may be an index
// itself. A [NoPlatformError] tells what there is instead.
func Select(index *v1.Index, arch platform.Arch) (v1.Descriptor, error) {
	var best, untold *v1.Descriptor
	untolds, bestRank := 0, 0
	have := []string{}
	for i := range index.Manifests {
		d := &index.Manifests[i]
		if _, known := kindOf(d.MediaType); !known && d.MediaType != "" {
			continue
		}
		if IsAttestation(*d) {
			continue
		}
		if d.Platform == nil || d.Platform.Architecture == "" {
			untold = d
			untolds++
			continue
		}
		p := d.Platform
		if name := PlatformName(*p); !slices.Contains(have, name) {
			have = append(have, name)
		}
		if rank, ok := rankOf(*p, arch); ok && (best == nil || rank < bestRank) {
			best, bestRank = d, rank
		}
	}
	if best != nil {
		return *best, nil
	}
	if untolds == 1 && len(have) == 0 { // the config will tell
		return *untold, nil
	}
	return v1.Descriptor{}, &NoPlatformError{Want: arch, Have: have}
}

// rankOf orders the platforms that can run as arch; lower is better. A variant that
// needs a newer CPU than arch promises comes last.
func rankOf(p v1.Platform, arch platform.Arch) (rank int, ok bool) {
	got, ok := platform.FromOCI(p.Architecture, p.Variant)
	if !ok || got != arch || p.OS != "linux" && p.OS != "" {
		return 0, false
	}
	order := []string{""}
	switch arch {
	case platform.ARM:
		order = []string{"v7", "", "v6"}
	case platform.AArch64:
		order = []string{"", "v8"}
	case platform.X86_64:
		order = []string{"", "v1", "v2"}
	}
	if i := slices.Index(order, p.Variant); i >= 0 {
		return i, true
	}
	return len(order), true
}

// IsAttestation tells what BuildKit adds to an index from images.
func IsAttestation(d v1.Descriptor) bool {
	return d.Platform != nil && d.Platform.OS == "unknown" ||
		d.Annotations["vnd.docker.reference.type"] == "attestation-manifest"
}

// PlatformName is Docker's spelling: linux/amd64, linux/arm/v7.
func PlatformName(p v1.Platform) string {
	name := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		name += "/" + p.Variant
	}
	return Clip(name)
}

// CheckPlatform reports, as a [NoPlatformError], a config that is of another
// architecture than arch. A config that names none is trusted.
func CheckPlatform(config *v1.Image, arch platform.Arch) error {
	if config.Architecture == "" {
		return nil
	}
	if _, ok := rankOf(config.Platform, arch); !ok {
		return &NoPlatformError{Want: arch, Have: []string{PlatformName(config.Platform)}}
	}
	return nil
}
