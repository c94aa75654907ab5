package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

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
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex}
	for _, img := range images {
		d, err := manifestDescriptor(img.Record)
		if err != nil {
			return nil, fmt.Errorf("make image index: %w", err)
		}
		index.Manifests = append(index.Manifests, d)
	}
	return json.Marshal(index)
}

// manifestDescriptor describes an image's manifest, with the platform that its config tells.
func manifestDescriptor(rec *oci.Record) (v1.Descriptor, error) {
	doc, err := oci.ParseDocument(v1.MediaTypeImageManifest, rec.Manifest)
	if err != nil {
		return v1.Descriptor{}, err
	}
	config, err := rec.Image()
	if err != nil {
		return v1.Descriptor{}, err
	}
	d := v1.Descriptor{
		MediaType: v1.MediaTypeImageManifest,
		Digest:    digest.FromBytes(rec.Manifest),
		Size:      int64(len(rec.Manifest)),
	}
	if doc.Manifest != nil && doc.Manifest.MediaType != "" {
		d.MediaType = doc.Manifest.MediaType
	}
	if config.Architecture != "" {
		d.Platform = &v1.Platform{Architecture: config.Architecture, OS: config.OS, Variant: config.Variant}
	}
	return d, nil
}

// exportOCI writes an archive, a tar stream, that is both an OCI image layout and what
// `docker load` reads. Of several platforms old versions of Docker see the first. The same images
// give the same bytes on every machine.
//
// Layers are verified while they are written: after an error the archive is not to be used.
func exportOCI(ctx context.Context, w io.Writer, exports []Export) error {
	x := exporter{ctx: ctx, tar: tar.NewWriter(w), written: map[digest.Digest]bool{}}
	err := x.plan(exports)
	if err == nil {
		err = x.run(exports)
	}
	if err == nil {
		err = x.tar.Close()
	}
	if err != nil {
		return fmt.Errorf("export image: %w", err)
	}
	return nil
}

type exporter struct {
	ctx     context.Context
	tar     *tar.Writer
	index   v1.Index
	docker  []dockerEntry
	written map[digest.Digest]bool
}

// dockerEntry is an image in manifest.json of `docker save`.
type dockerEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// plan makes the two documents that list the images, and checks what can be checked before
// anything is written.
func (x *exporter) plan(exports []Export) error {
	x.index = v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex}
	for _, e := range exports {
		if len(e.Images) == 0 || len(e.Images) > 1 && e.Index == nil {
			return errors.New("several platforms need an index")
		}
		for _, img := range e.Images {
			if err := checkConfig(img.Record); err != nil {
				return err
			}
		}
		d, err := manifestDescriptor(e.Images[0].Record)
		if err != nil {
			return err
		}
		if e.Index != nil {
			d = v1.Descriptor{MediaType: v1.MediaTypeImageIndex, Digest: digest.FromBytes(e.Index), Size: int64(len(e.Index))}
		}
		x.list(d, e.Names)
		if err := x.listDocker(e.Images[0].Record, e.Names); err != nil {
			return err
		}
	}
	return nil
}

// checkConfig refuses a record whose config was reformatted, so that its digest is not right.
func checkConfig(rec *oci.Record) error {
	d, err := rec.ConfigDescriptor()
	if err != nil {
		return err
	}
	if got := digest.FromBytes(rec.Config); got != d.Digest {
		return &DigestError{What: "image config", Want: string(d.Digest), Got: string(got)}
	}
	return nil
}

// list adds an image to index.json once for each of its names, as BuildKit and containerd do.
func (x *exporter) list(d v1.Descriptor, names []oci.Ref) {
	if len(names) == 0 {
		x.index.Manifests = append(x.index.Manifests, d)
	}
	for _, name := range names {
		d.Annotations = map[string]string{containerdName: fullName(name)}
		if name.Tag != "" {
			d.Annotations[v1.AnnotationRefName] = name.Tag
		}
		x.index.Manifests = append(x.index.Manifests, d)
	}
}

// fullName is the name with registry: docker.io/library/debian:12.
func fullName(name oci.Ref) string {
	full := name.Registry + "/" + name.Repository
	if name.Tag != "" {
		full += ":" + name.Tag
	}
	if name.Digest != "" {
		full += "@" + name.Digest
	}
	return full
}

func (x *exporter) listDocker(rec *oci.Record, names []oci.Ref) error {
	config, err := rec.ConfigDescriptor()
	if err != nil {
		return err
	}
	layers, err := rec.Layers()
	if err != nil {
		return err
	}
	e := dockerEntry{Config: blobFile(config.Digest), Layers: []string{}}
	for _, name := range names {
		if name.Tag != "" {
			name.Digest = ""
			e.RepoTags = append(e.RepoTags, name.String())
		}
	}
	for _, d := range layers {
		e.Layers = append(e.Layers, blobFile(d.Digest))
	}
	x.docker = append(x.docker, e)
	return nil
}

// run writes the archive: what lists the images, then manifests and configs, then layers, so
// that a reader knows early what it has before it.
func (x *exporter) run(exports []Export) error {
	for _, file := range []struct {
		name    string
		content any
	}{
		{layoutFile, v1.ImageLayout{Version: v1.ImageLayoutVersion}},
		{indexFile, x.index},
		{dockerManifestFile, x.docker},
	} {
		data, err := json.Marshal(file.content)
		if err != nil {
			return err
		}
		if err := x.file(file.name, data); err != nil {
			return err
		}
	}
	for _, dir := range []string{blobsDir, path.Join(blobsDir, digest.SHA256.String())} {
		if err := x.header(tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}); err != nil {
			return err
		}
	}
	var layers []Blob
	for _, e := range exports {
		documents := [][]byte{e.Index}
		for _, img := range e.Images {
			documents = append(documents, img.Record.Manifest, img.Record.Config)
			layers = append(layers, img.Layers...)
		}
		for _, data := range documents {
			if err := x.document(data); err != nil {
				return err
			}
		}
	}
	for _, layer := range layers {
		if err := x.layer(layer); err != nil {
			return err
		}
	}
	return nil
}

func (x *exporter) header(hdr tar.Header) error {
	if err := x.ctx.Err(); err != nil {
		return err
	}
	hdr.ModTime = time.Unix(0, 0)
	return x.tar.WriteHeader(&hdr)
}

func (x *exporter) file(name string, data []byte) error {
	if err := x.header(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := x.tar.Write(data)
	return err
}

// document writes a blob of few bytes, once.
func (x *exporter) document(data []byte) error {
	d := digest.FromBytes(data)
	if data == nil || x.written[d] {
		return nil
	}
	x.written[d] = true
	return x.file(blobFile(d), data)
}

// layer writes a layer, once.
func (x *exporter) layer(layer Blob) error {
	d := layer.Descriptor()
	if x.written[d.Digest] {
		return nil
	}
	x.written[d.Digest] = true
	if err := oci.CheckDescriptor(d); err != nil {
		return err
	}
	r, err := layer.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := x.header(tar.Header{Typeflag: tar.TypeReg, Name: blobFile(d.Digest), Mode: 0o644, Size: d.Size}); err != nil {
		return err
	}
	// The reader's end carries its verdict, also about a size that is not right.
	_, err = io.CopyBuffer(struct{ io.Writer }{x.tar}, &watched{ctx: x.ctx, r: r}, make([]byte, 256<<10))
	return err
}
