package build

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/image"
	"proot-distro/internal/oci"
)

// finish makes the image of a stage: its layers in the cache, config and manifest.
func (p *platformBuild) finish(ctx context.Context, s *stage) (Result, error) {
	for key, value := range p.req.Labels {
		setLabel(&s.img.Config, key, value)
	}
	created := s.timestamp()
	if created.IsZero() {
		created = time.Now().UTC()
	}
	s.img.Created = &created
	if p.req.Epoch != nil {
		clampHistory(s.img.History, created)
	}
	arch := p.arch
	if p.req.Implicit {
		arch = s.arch
	}
	s.img.OS = "linux"
	s.img.Architecture, s.img.Variant = arch.OCI()
	s.img.RootFS.Type = "layers"
	s.img.RootFS.DiffIDs = make([]digest.Digest, 0, len(s.tree.layers))
	manifest := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, Layers: []v1.Descriptor{}}
	blobs := []image.Blob{}
	for _, l := range s.tree.layers {
		if err := ctx.Err(); err != nil {
			return Result{}, err
		}
		if err := p.await(l.blob); err != nil {
			return Result{}, err
		}
		d := l.blob.Descriptor()
		d = v1.Descriptor{MediaType: ociLayer(d.MediaType), Digest: d.Digest, Size: d.Size}
		manifest.Layers = append(manifest.Layers, d)
		s.img.RootFS.DiffIDs = append(s.img.RootFS.DiffIDs, l.diffID)
		blobs = append(blobs, p.Cache.Blob(d))
	}
	config, err := json.Marshal(s.img)
	if err != nil {
		return Result{}, fmt.Errorf("write image config: %w", err)
	}
	manifest.Config = v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}
	data, err := json.Marshal(manifest)
	if err != nil {
		return Result{}, fmt.Errorf("write image manifest: %w", err)
	}
	rec := &oci.Record{Arch: arch, Manifest: data, Config: config}
	rec.AddOrigins(s.origins...)
	return Result{Arch: arch, Record: rec, Image: &image.Image{Record: rec, Layers: blobs}}, nil
}

// clampHistory lets no time be later than SOURCE_DATE_EPOCH.
func clampHistory(history []v1.History, latest time.Time) {
	for i := range history {
		if t := history[i].Created; t == nil || t.After(latest) {
			history[i].Created = &latest
		}
	}
}

// ociLayer is the media type that a layer has in an OCI manifest, in which Docker's do not belong.
func ociLayer(mediaType string) string {
	const docker = "application/vnd.docker.image.rootfs.diff.tar"
	switch rest, isDocker := strings.CutPrefix(mediaType, docker); {
	case isDocker && rest == ".gzip", mediaType == "":
		return v1.MediaTypeImageLayerGzip
	case isDocker && rest == ".zstd":
		return v1.MediaTypeImageLayerZstd
	case isDocker:
		return v1.MediaTypeImageLayer
	}
	return mediaType
}
