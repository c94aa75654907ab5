package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/report"
)

// Downloaded is what Download has fetched.
type Downloaded struct {
	Digest    digest.Digest // of the manifest, or of the index
	Platforms []string
}

// Download fetches an image into the cache and returns when it is there: the one of req.Arch, or with everything
// the image of each platform that its index lists, and what belongs to them, so that it can be pushed elsewhere
// byte for byte. The registry is always asked which image it is.
//
// Failures are *Error. Download holds the cache's shared lock.
func Download(ctx context.Context, req Request, everything bool) (done Downloaded, err error) {
	if err := req.Auth.check(); err != nil {
		return Downloaded{}, err
	}
	if req.Report == nil {
		req.Report = report.Discard
	}
	req.Refresh = true
	release, err := req.Cache.Lock(image.Shared)
	if err != nil {
		return Downloaded{}, err
	}
	defer func() { err = errors.Join(err, release()) }()
	p := &puller{req: req}
	if everything {
		return p.everything(ctx)
	}
	rec, err := p.resolve(ctx)
	if err != nil {
		return Downloaded{}, err
	}
	layers, err := rec.Layers()
	if err == nil {
		err = p.fetch(ctx, layers)
	}
	if err != nil {
		return Downloaded{}, err
	}
	return Downloaded{digest.FromBytes(rec.Manifest), []string{string(rec.Arch)}}, p.store(rec)
}

// everything fetches all that a reference stands for.
func (p *puller) everything(ctx context.Context) (Downloaded, error) {
	if err := p.connect(ctx); err != nil {
		return Downloaded{}, err
	}
	reference := cmp.Or(p.req.Ref.Digest, p.req.Ref.Tag)
	explain := func(err error) error {
		return p.client.explainMissing(ctx, p.client.explain(err, reference, MissingTag))
	}
	data, mediaType, err := p.client.manifest(ctx, reference)
	if err != nil {
		return Downloaded{}, explain(err)
	}
	doc, err := oci.ParseDocument(mediaType, data)
	if err != nil {
		return Downloaded{}, explain(&fault{Unsupported, err})
	}
	var records []*oci.Record
	if doc.Index != nil {
		p.index = data
		records, err = p.fetchIndex(ctx, doc.Index)
	} else {
		records, err = p.fetchOnly(ctx, data, doc.Manifest)
	}
	if err != nil {
		return Downloaded{}, explain(err)
	}
	if err := p.replace(records...); err != nil {
		return Downloaded{}, err
	}
	done := Downloaded{Digest: digest.FromBytes(data)}
	if doc.Index == nil {
		done.Platforms = []string{string(records[0].Arch)}
		return done, nil
	}
	index, err := p.req.Cache.LookupIndex(p.req.Ref)
	if err != nil {
		return Downloaded{}, err
	}
	done.Platforms = index.Platforms()
	return done, nil
}

// replace stores records, in the place of all that there are when they have an index.
func (p *puller) replace(records ...*oci.Record) error {
	for _, arch := range platform.All() {
		if p.index == nil {
			break
		}
		if err := p.req.Cache.Remove(p.req.Ref, arch); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return p.store(records...)
}

// fetchOnly fetches an image without an index, whatever architecture of ours it is for.
func (p *puller) fetchOnly(ctx context.Context, manifest []byte, m *v1.Manifest) ([]*oci.Record, error) {
	config, err := p.client.config(ctx, m.Config)
	if err != nil {
		return nil, p.client.explain(err, m.Config.Digest.String(), MissingBlob)
	}
	if _, err := p.req.Cache.WriteBlob(config); err != nil {
		return nil, err
	}
	img, err := (&oci.Record{Config: config}).Image()
	if err != nil {
		return nil, &fault{Unsupported, err}
	}
	if arch, ok := platform.FromOCI(img.Architecture, img.Variant); ok {
		p.req.Arch = arch
	}
	rec, err := p.record(ctx, manifest, m)
	if err != nil {
		return nil, err
	}
	return []*oci.Record{rec}, p.fetch(ctx, m.Layers)
}

// fetchIndex fetches all that an index lists. It gives records of what can be installed.
func (p *puller) fetchIndex(ctx context.Context, index *v1.Index) (records []*oci.Record, err error) {
	var blobs []v1.Descriptor
	for _, d := range index.Manifests {
		data, mediaType, err := p.client.manifest(ctx, d.Digest.String())
		if err != nil {
			return nil, err
		}
		if doc, err := oci.ParseDocument(mediaType, data); err == nil && doc.Index != nil {
			return nil, faultf(Unsupported, "it has an image index within its image index: fetch one platform with --architecture")
		}
		config, layers, err := oci.Contents(data)
		if err != nil {
			return nil, &fault{Unsupported, err}
		}
		if int64(len(data)) != d.Size {
			return nil, faultf(Protocol, "manifest %s has %d bytes, but %d in its image index", d.Digest, len(data), d.Size)
		}
		if _, err := p.req.Cache.WriteBlob(data); err != nil {
			return nil, err
		}
		blobs = append(append(blobs, config), layers...)
	}
	if err := p.fetch(ctx, blobs); err != nil {
		return nil, err
	}
	for _, arch := range platform.All() {
		d, err := oci.Select(index, arch)
		if err != nil {
			continue // not for this one
		}
		p.req.Arch = arch
		rec, err := p.selected(ctx, d)
		if err != nil {
			p.req.Report.Warnf("%s for %s cannot be installed: %v", p.req.Ref, arch, err)
			continue
		}
		records = append(records, rec)
	}
	return records, nil
}

// selected makes the record of a manifest that an index lists.
func (p *puller) selected(ctx context.Context, d v1.Descriptor) (*oci.Record, error) {
	manifest, err := p.req.Cache.ReadBlob(d, oci.MaxManifestSize)
	if err != nil {
		return nil, err
	}
	doc, err := oci.ParseDocument(v1.MediaTypeImageManifest, manifest)
	if err != nil {
		return nil, err
	}
	return p.record(ctx, manifest, doc.Manifest)
}

// fetch downloads the blobs that are not cached, several at a time.
func (p *puller) fetch(ctx context.Context, blobs []v1.Descriptor) error {
	var missing []*download
	begun := map[digest.Digest]bool{}
	for _, d := range blobs {
		if p.req.Cache.Has(d) || begun[d.Digest] {
			continue
		}
		begun[d.Digest] = true
		missing = append(missing, newDownload(d, "", p.req.Cache))
	}
	for i, d := range missing {
		d.label = fmt.Sprintf("Blob %d/%d %s", i+1, len(missing), d.desc.Digest.Encoded()[:12])
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if !p.downloadAll(ctx, cancel, missing) {
		return context.Cause(ctx)
	}
	return nil
}
