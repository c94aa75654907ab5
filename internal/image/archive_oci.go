package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
)

// Files of an OCI image layout (image-spec, image-layout.md).
const (
	layoutFile = v1.ImageLayoutFile
	indexFile  = v1.ImageIndexFile
	blobsDir   = v1.ImageBlobsDir
)

// Bounds on the tree of indexes below index.json, which no sane archive comes near.
const (
	maxIndexDepth = 8
	maxIndexes    = 20
	maxManifests  = 1000
)

// containerdName is the annotation in which docker save and containerd keep the full
// name of an image; the standard one then holds the tag alone.
const containerdName = "io.containerd.image.name"

func (a *archive) findOCI() (*foundImage, error) {
	if err := a.checkLayout(); err != nil {
		return nil, err
	}
	data, err := a.readFile(indexFile, oci.MaxManifestSize)
	if err != nil {
		return nil, err
	}
	doc, err := oci.ParseDocument(v1.MediaTypeImageIndex, data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", indexFile, err)
	}
	if doc.Index == nil {
		return nil, fmt.Errorf("%s is not an image index", indexFile)
	}
	w := indexWalk{archive: a}
	if err := w.walk(doc.Index, nil, 0); err != nil {
		return nil, err
	}
	chosen, err := w.choose()
	if err != nil {
		return nil, err
	}
	found, err := a.readImage(chosen.descriptor)
	if err != nil {
		return nil, err
	}
	found.names = chosen.names
	return found, nil
}

func (a *archive) checkLayout() error {
	data, err := a.readFile(layoutFile, 1<<20)
	if err != nil {
		return err
	}
	var layout v1.ImageLayout
	if err := json.Unmarshal(data, &layout); err != nil {
		return fmt.Errorf("%q is not valid JSON: %w", layoutFile, err)
	}
	if !strings.HasPrefix(layout.Version, "1.") {
		return fmt.Errorf("OCI image layout has version %q, which is not supported: only 1.0.0 is", oci.Clip(layout.Version))
	}
	return nil
}

func blobFile(d digest.Digest) string {
	return blobsDir + "/" + d.Algorithm().String() + "/" + d.Encoded()
}

// readBlob reads and verifies a small blob of an OCI layout.
func (a *archive) readBlob(what string, d v1.Descriptor, limit int64) ([]byte, error) {
	if err := oci.CheckDescriptor(d); err != nil {
		return nil, err
	}
	data, err := a.readFile(blobFile(d.Digest), limit)
	if err != nil {
		return nil, err
	}
	if got := digest.FromBytes(data); got != d.Digest {
		return nil, &DigestError{What: what, Want: string(d.Digest), Got: string(got)}
	}
	if int64(len(data)) != d.Size {
		return nil, fmt.Errorf("%s %s has %d bytes instead of %d", what, d.Digest, len(data), d.Size)
	}
	return data, nil
}

// readImage reads the manifest and config of one image.
func (a *archive) readImage(d v1.Descriptor) (*foundImage, error) {
	data, m, err := a.readManifest(d)
	if err != nil {
		return nil, err
	}
	config, parsed, err := a.readConfig(m.Config)
	if err != nil {
		return nil, err
	}
	if err := oci.CheckPlatform(&parsed, a.arch); err != nil {
		return nil, err
	}
	found := &foundImage{manifest: data, config: config}
	for _, layer := range m.Layers {
		found.layerFiles = append(found.layerFiles, blobFile(layer.Digest))
	}
	return found, nil
}

func (a *archive) readManifest(d v1.Descriptor) ([]byte, *v1.Manifest, error) {
	data, err := a.readBlob("manifest", d, oci.MaxManifestSize)
	if err != nil {
		return nil, nil, err
	}
	doc, err := oci.ParseDocument(d.MediaType, data)
	if err != nil {
		return nil, nil, err
	}
	if doc.Manifest == nil {
		return nil, nil, fmt.Errorf("manifest %s is an index although it is not listed as one", d.Digest)
	}
	return data, doc.Manifest, nil
}

func (a *archive) readConfig(d v1.Descriptor) ([]byte, v1.Image, error) {
	data, err := a.readBlob("image config", d, oci.MaxConfigSize)
	if err != nil {
		return nil, v1.Image{}, err
	}
	parsed, err := parseConfig(data)
	return data, parsed, err
}

func parseConfig(data []byte) (v1.Image, error) {
	return (&oci.Record{Config: data}).Image()
}

// candidate is a manifest that index.json leads to.
type candidate struct {
	names      []string      // of the image it belongs to, best first; none is common
	descriptor v1.Descriptor // with a platform
}

// indexWalk collects the manifests below index.json.
type indexWalk struct {
	*archive
	candidates []candidate
	indexes    []digest.Digest // that were read
	unusable   error           // why the first manifest of unknown platform was left out
}

func (w *indexWalk) walk(index *v1.Index, names []string, depth int) error {
	if depth > maxIndexDepth {
		return fmt.Errorf("image indexes are nested more than %d deep", maxIndexDepth)
	}
	for _, d := range index.Manifests {
		own := namesOf(d)
		if len(own) == 0 {
			own = names
		}
		var err error
		switch {
		case oci.IsAttestation(d):
		case d.MediaType == v1.MediaTypeImageIndex, d.MediaType == oci.MediaTypeDockerList:
			err = w.walkNested(d, own, depth+1)
		case d.MediaType == v1.MediaTypeImageManifest, d.MediaType == oci.MediaTypeDockerManifest, d.MediaType == "":
			err = w.add(d, own)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func namesOf(d v1.Descriptor) []string {
	var names []string
	for _, key := range []string{containerdName, v1.AnnotationRefName} {
		if name := d.Annotations[key]; name != "" && len(name) <= maxImageRef {
			names = append(names, name)
		}
	}
	return names
}

func (w *indexWalk) walkNested(d v1.Descriptor, names []string, depth int) error {
	if slices.Contains(w.indexes, d.Digest) {
		return nil // the same image under another name
	}
	if len(w.indexes) >= maxIndexes {
		return fmt.Errorf("there are more than %d image indexes", maxIndexes)
	}
	w.indexes = append(w.indexes, d.Digest)
	data, err := w.readBlob("image index", d, oci.MaxManifestSize)
	if err != nil {
		return err
	}
	doc, err := oci.ParseDocument(d.MediaType, data)
	if err != nil {
		return err
	}
	if doc.Index == nil {
		return fmt.Errorf("manifest %s is listed as an index but is not one", d.Digest)
	}
	return w.walk(doc.Index, names, depth)
}

// add finds out a manifest's platform, from its config if need be.
func (w *indexWalk) add(d v1.Descriptor, names []string) error {
	if len(w.candidates) >= maxManifests {
		return fmt.Errorf("there are more than %d images", maxManifests)
	}
	if slices.ContainsFunc(w.candidates, func(c candidate) bool { return c.descriptor.Digest == d.Digest }) {
		return nil
	}
	if d.Platform == nil || d.Platform.Architecture == "" {
		p, err := w.platformOf(d)
		if err != nil {
			if w.ctx.Err() != nil {
				return err
			}
			if w.unusable == nil { // signatures and other artifacts lie here too
				w.unusable = err
			}
			return nil
		}
		d.Platform = &p
	}
	d.Annotations = nil // may be large
	w.candidates = append(w.candidates, candidate{names, d})
	return nil
}

func (w *indexWalk) platformOf(d v1.Descriptor) (v1.Platform, error) {
	_, m, err := w.readManifest(d)
	if err != nil {
		return v1.Platform{}, err
	}
	_, config, err := w.readConfig(m.Config)
	if err != nil {
		return v1.Platform{}, err
	}
	return platformOrAsked(config.Platform, w.arch), nil
}

// platformOrAsked trusts a config that names no architecture.
func platformOrAsked(p v1.Platform, arch platform.Arch) v1.Platform {
	if p.Architecture == "" {
		p.Architecture, p.Variant = arch.OCI()
		p.OS = "linux"
	}
	return p
}

// choose finds the one image for the architecture. An image of several platforms has
// one name, or none, for all of them.
func (w *indexWalk) choose() (candidate, error) {
	if len(w.candidates) == 0 {
		if w.unusable != nil {
			return candidate{}, w.unusable
		}
		return candidate{}, errors.New("there is no image in the archive")
	}
	var chosen []candidate
	none := &oci.NoPlatformError{Want: w.arch}
	for _, group := range groupByName(w.candidates) {
		best, err := w.bestOf(group)
		var no *oci.NoPlatformError
		if errors.As(err, &no) {
			for _, have := range no.Have {
				if !slices.Contains(none.Have, have) {
					none.Have = append(none.Have, have)
				}
			}
			continue
		} else if err != nil {
			return candidate{}, err
		}
		chosen = append(chosen, best)
	}
	switch len(chosen) {
	case 0:
		return candidate{}, none
	case 1:
		return chosen[0], nil
	}
	var names []string
	for _, c := range chosen {
		names = append(names, c.names[:min(len(c.names), 1)]...)
	}
	return candidate{}, &severalError{w.arch, len(chosen), names}
}

func groupByName(candidates []candidate) [][]candidate {
	var groups [][]candidate
next:
	for _, c := range candidates {
		for i, group := range groups {
			if slices.Equal(group[0].names, c.names) {
				groups[i] = append(group, c)
				continue next
			}
		}
		groups = append(groups, []candidate{c})
	}
	return groups
}

// bestOf chooses among the platforms of one image.
func (w *indexWalk) bestOf(group []candidate) (candidate, error) {
	index := &v1.Index{}
	for _, c := range group {
		index.Manifests = append(index.Manifests, c.descriptor)
	}
	d, err := oci.Select(index, w.arch)
	if err != nil {
		return candidate{}, err
	}
	same := 0
	var best candidate
	for _, c := range group {
		if c.descriptor.Digest == d.Digest {
			best = c
		}
		if p := c.descriptor.Platform; p.Architecture == d.Platform.Architecture && p.Variant == d.Platform.Variant && p.OS == d.Platform.OS {
			same++
		}
	}
	if same > 1 {
		return candidate{}, &severalError{w.arch, same, best.names}
	}
	return best, nil
}

// severalError says that the choice between images is the user's.
type severalError struct {
	arch  platform.Arch
	count int
	names []string
}

func (e *severalError) Error() string {
	const shown = 10
	var quoted []string
	for _, name := range e.names[:min(len(e.names), shown)] {
		quoted = append(quoted, fmt.Sprintf("%q", oci.Clip(name)))
	}
	list := ""
	if len(quoted) > 0 {
		list = " (" + strings.Join(quoted, ", ") + ")"
	}
	return fmt.Sprintf("there are %d images for %s in the archive%s: save the one you want in an archive of its own", e.count, e.arch, list)
}
