package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/compression"
	"proot-distro/internal/oci"
)

// dockerManifestFile lists the images of a docker-save archive.
const dockerManifestFile = "manifest.json"

// dockerImage is an entry of manifest.json. Config and Layers are names of files in the
// archive: <id>.json and <id>/layer.tar before Docker 25, blobs/sha256/<hex> since.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string

	config  []byte
	diffIDs []digest.Digest
}

func (a *archive) findDocker() (*foundImage, error) {
	data, err := a.readFile(dockerManifestFile, oci.MaxManifestSize)
	if err != nil {
		return nil, err
	}
	images, err := parseDockerImages(data)
	if err != nil {
		return nil, err
	}
	image, err := a.chooseDocker(images)
	if err != nil {
		return nil, err
	}
	manifest, err := a.dockerManifest(image)
	if err != nil {
		return nil, err
	}
	return &foundImage{names: image.RepoTags, manifest: manifest, config: image.config, layerFiles: image.Layers}, nil
}

// parseDockerImages takes another program's manifest.json for ErrNotImage: some rootfs
// has one too. It counts while it reads, since an empty entry takes far more memory
// than its two bytes.
func parseDockerImages(data []byte) ([]*dockerImage, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if start, err := dec.Token(); err != nil || start != json.Delim('[') {
		return nil, ErrNotImage
	}
	var images []*dockerImage
	for dec.More() {
		image := &dockerImage{}
		if err := dec.Decode(image); err != nil || image.Config == "" {
			return nil, ErrNotImage
		}
		image.Config = path.Clean(image.Config)
		if slices.ContainsFunc(images, func(i *dockerImage) bool { return i.Config == image.Config }) {
			continue // under other tags
		}
		if len(images) == maxManifests {
			return nil, fmt.Errorf("there are more than %d images", maxManifests)
		}
		images = append(images, image)
	}
	if _, err := dec.Token(); err != nil || len(images) == 0 {
		return nil, ErrNotImage
	}
	return images, nil
}

// chooseDocker finds the one image for the architecture.
func (a *archive) chooseDocker(images []*dockerImage) (*dockerImage, error) {
	var chosen []*dockerImage
	none := &oci.NoPlatformError{Want: a.arch}
	for _, image := range images {
		config, parsed, err := a.readDockerConfig(image.Config)
		if err != nil {
			return nil, err
		}
		err = oci.CheckPlatform(&parsed, a.arch)
		var no *oci.NoPlatformError
		if errors.As(err, &no) {
			if !slices.Contains(none.Have, no.Have[0]) {
				none.Have = append(none.Have, no.Have...)
			}
			continue
		}
		if len(chosen) == 0 { // of the others the name is all that will be needed
			image.config, image.diffIDs = config, parsed.RootFS.DiffIDs
		}
		chosen = append(chosen, image)
	}
	switch len(chosen) {
	case 0:
		return nil, none
	case 1:
		return chosen[0], nil
	}
	var names []string
	for _, image := range chosen {
		names = append(names, image.RepoTags[:min(len(image.RepoTags), 1)]...)
	}
	return nil, &severalError{a.arch, len(chosen), names}
}

func (a *archive) readDockerConfig(name string) ([]byte, v1.Image, error) {
	config, err := a.readFile(name, oci.MaxConfigSize)
	if err != nil {
		return nil, v1.Image{}, err
	}
	parsed, err := parseConfig(config)
	if err != nil {
		return nil, v1.Image{}, fmt.Errorf("%q: %w", oci.Clip(name), err)
	}
	return config, parsed, nil
}

// dockerManifest makes the manifest that a docker-save archive does not have.
func (a *archive) dockerManifest(image *dockerImage) ([]byte, error) {
	diffIDs := image.diffIDs
	if len(diffIDs) != 0 && len(diffIDs) != len(image.Layers) {
		return nil, fmt.Errorf("image has %d layers but its config lists %d", len(image.Layers), len(diffIDs))
	}
	if len(image.Layers) > maxManifests {
		return nil, fmt.Errorf("image has %d layers, more than %d", len(image.Layers), maxManifests)
	}
	manifest := v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: v1.MediaTypeImageManifest,
		Config: v1.Descriptor{
			MediaType: v1.MediaTypeImageConfig,
			Digest:    digest.FromBytes(image.config),
			Size:      int64(len(image.config)),
		},
		Layers: []v1.Descriptor{},
	}
	for i, name := range image.Layers {
		var diffID digest.Digest
		if len(diffIDs) != 0 {
			diffID = diffIDs[i]
		}
		layer, err := a.describeLayer(name, diffID)
		if err != nil {
			return nil, err
		}
		manifest.Layers = append(manifest.Layers, layer)
	}
	return json.Marshal(manifest)
}

// describeLayer takes an uncompressed layer's digest from the config, since it is the
// diff ID and will be verified when the layer is copied.
func (a *archive) describeLayer(name string, diffID digest.Digest) (v1.Descriptor, error) {
	format, size, err := a.layerFormat(name)
	if err != nil {
		return v1.Descriptor{}, err
	}
	d := v1.Descriptor{Size: size, Digest: diffID}
	switch format {
	case compression.None:
		d.MediaType = v1.MediaTypeImageLayer
	case compression.Gzip:
		d.MediaType = v1.MediaTypeImageLayerGzip
	case compression.Zstd:
		d.MediaType = v1.MediaTypeImageLayerZstd
	default:
		return d, fmt.Errorf("layer %q is compressed with %s, which images cannot have", name, format)
	}
	if format != compression.None || diffID == "" {
		d.Digest, err = a.digestFile(name)
	}
	return d, err
}

func (a *archive) layerFormat(name string) (format compression.Format, size int64, err error) {
	f, size, err := a.open(name)
	if err != nil {
		return compression.None, 0, err
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, compression.DetectLen))
	if err != nil {
		return compression.None, 0, fmt.Errorf("read %q: %w", name, err)
	}
	return compression.Detect(head), size, nil
}
