package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/report"
)

// parallel is the number of layers that are downloaded at the same time.
const parallel = 4

// Pull resolves a reference and starts to download the layers that are missing. It
// returns as soon as the image is known: the layers' Open gives the bytes as they
// arrive. The caller must Close the image, which stops what still runs. Failures are *Error,
// be it from Pull or from reading a layer.
//
// Pull holds the cache's shared lock until Close.
func Pull(ctx context.Context, req Request) (*image.Image, error) {
	if err := req.Auth.check(); err != nil {
		return nil, err
	}
	if req.Report == nil {
		req.Report = report.Discard
	}
	release, err := req.Cache.Lock(image.Shared)
	if err != nil {
		return nil, err
	}
	p := &puller{req: req}
	rec, err := p.resolve(ctx)
	if err != nil {
		return nil, errors.Join(err, release())
	}
	img, err := p.start(ctx, rec)
	if err != nil {
		return nil, errors.Join(err, release())
	}
	stop := img.Release
	img.Release = func() error { return errors.Join(stop(), release()) }
	return img, nil
}

// puller is one Pull.
type puller struct {
	req    Request
	client *client // nil until the network is needed
	fresh  bool    // the record came from the registry and is not stored yet
	index  []byte  // that lists it, if any
}

func (p *puller) connect(ctx context.Context) (err error) {
	if p.client == nil {
		p.client, err = connect(ctx, p.req, "pull")
	}
	return err
}

// resolve finds the image's record: from the cache, as long as its layers are there or
// can still be had, else from the registry.
func (p *puller) resolve(ctx context.Context) (*oci.Record, error) {
	rec, err := p.req.Cache.Lookup(p.req.Ref, p.req.Arch)
	if err == nil && !p.req.Refresh {
		usable, err := p.usable(ctx, rec)
		if err != nil {
			return nil, err
		}
		if usable {
			p.req.Report.Detailf("%s: using the cached manifest", p.req.Ref)
			return rec, nil
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := p.connect(ctx); err != nil {
		return nil, err
	}
	p.fresh = true
	rec, reference, err := p.fetchRecord(ctx)
	if err != nil {
		return nil, p.client.explainMissing(ctx, p.client.explain(err, reference, MissingTag))
	}
	return rec, nil
}

// explainMissing finds out whether it is the tag or the whole repository that is missing:
// registries say MANIFEST_UNKNOWN to both.
func (c *client) explainMissing(ctx context.Context, err error) error {
	e := new(Error)
	if !errors.As(err, &e) || e.Missing != MissingTag {
		return err
	}
	tags, terr := c.tags(ctx)
	if status := new(statusError); errors.As(terr, &status) && status.code == http.StatusNotFound {
		e.Missing = MissingRepository
	}
	e.Tags = tags
	return err
}

// usable reports whether all layers of a cached record are cached or still in the
// registry; after a tag moved on, old layers may be gone.
func (p *puller) usable(ctx context.Context, rec *oci.Record) (bool, error) {
	layers, err := rec.Layers()
	if err != nil || rec.Config == nil {
		return false, nil
	}
	for _, d := range layers {
		if p.req.Cache.Has(d) {
			continue
		}
		if err := p.connect(ctx); err != nil {
			return false, err
		}
		if there, err := p.client.has(ctx, d); err != nil {
			return false, p.client.explain(err, d.Digest.String(), MissingBlob)
		} else if !there {
			return false, nil
		}
	}
	return true, nil
}

// fetchRecord asks the registry: index, manifest, config. On failure it also returns
// the reference that was being asked for.
func (p *puller) fetchRecord(ctx context.Context) (rec *oci.Record, reference string, err error) {
	reference = cmp.Or(p.req.Ref.Digest, p.req.Ref.Tag)
	for depth := 0; depth < 4; depth++ { // an index may hold indexes
		data, mediaType, err := p.client.manifest(ctx, reference)
		if err != nil {
			return nil, reference, err
		}
		doc, err := oci.ParseDocument(mediaType, data)
		if err != nil {
			return nil, reference, &fault{Unsupported, err}
		}
		if doc.Index == nil {
			rec, err := p.record(ctx, data, doc.Manifest)
			return rec, reference, err
		}
		d, err := oci.Select(doc.Index, p.req.Arch)
		if err != nil {
			return nil, reference, err
		}
		if p.index = data; depth > 0 {
			p.index = nil // the outer one cannot be kept without it
		}
		reference = d.Digest.String()
	}
	return nil, reference, faultf(Protocol, "its image indexes are nested too deeply")
}

// record completes a manifest with its config and checks that they belong together.
func (p *puller) record(ctx context.Context, manifest []byte, m *v1.Manifest) (*oci.Record, error) {
	config, err := p.req.Cache.ReadBlob(m.Config, oci.MaxConfigSize)
	if err != nil {
		if config, err = p.client.config(ctx, m.Config); err != nil {
			return nil, p.client.explain(err, m.Config.Digest.String(), MissingBlob)
		}
	}
	rec := &oci.Record{
		ImageRef: p.req.Typed, Arch: p.req.Arch, Repo: p.req.Ref.Repository,
		Manifest: manifest, Config: config,
	}
	img, err := rec.Image()
	if err != nil {
		return nil, &fault{Unsupported, err}
	}
	if err := oci.CheckPlatform(&img, p.req.Arch); err != nil {
		return nil, err
	}
	if len(img.RootFS.DiffIDs) != len(m.Layers) {
		return nil, faultf(Unsupported, "the image has %d layers but its config names %d", len(m.Layers), len(img.RootFS.DiffIDs))
	}
	return rec, nil
}

// start puts the image together and the missing layers on their way.
func (p *puller) start(ctx context.Context, rec *oci.Record) (*image.Image, error) {
	layers, err := rec.Layers()
	if err != nil {
		return nil, err
	}
	container := *rec // what a container keeps: as typed, without the cache's own field
	container.ImageRef, container.Repo = p.req.Typed, ""
	img := &image.Image{Record: &container}
	var missing []*download
	started := map[string]*download{} // a layer can occur twice
	for i, d := range layers {
		if dl := started[d.Digest.String()]; dl != nil {
			img.Layers = append(img.Layers, dl)
			continue
		}
		label := fmt.Sprintf("Layer %d/%d %s", i+1, len(layers), d.Digest.Encoded()[:12])
		if p.req.Cache.Has(d) {
			p.req.Report.Detailf("%s is cached", label)
			img.Layers = append(img.Layers, p.req.Cache.Blob(d))
			continue
		}
		dl := newDownload(d, label, p.req.Cache)
		started[d.Digest.String()] = dl
		missing = append(missing, dl)
		img.Layers = append(img.Layers, dl)
	}
	if len(missing) > 0 { // a layer may have gone since usable looked
		if err := p.connect(ctx); err != nil {
			return nil, err
		}
	}
	img.Release = p.background(ctx, rec, missing)
	return img, nil
}

// background downloads, and then stores the record: an entry of the manifest cache is
// an image that was there in full. The returned function stops it.
func (p *puller) background(ctx context.Context, rec *oci.Record, missing []*download) (stop func() error) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	var stored error
	go func() {
		defer close(done)
		if p.downloadAll(ctx, cancel, missing) && p.fresh {
			stored = p.store(rec)
		}
	}()
	return func() error {
		cancel(context.Canceled)
		<-done
		return stored
	}
}

// store puts what was fetched into the cache of images.
func (p *puller) store(records ...*oci.Record) error {
	for _, rec := range records {
		if err := p.req.Cache.Store(p.req.Ref, rec); err != nil {
			return err
		}
	}
	if p.index == nil {
		return nil
	}
	err := p.req.Cache.StoreIndex(p.req.Ref, p.index)
	if errors.Is(err, fs.ErrNotExist) { // it does not list what is cached for other platforms
		return nil
	}
	return err
}

// downloadAll works through the layers in their order. The first failure ends all, and
// is what every reader gets.
func (p *puller) downloadAll(ctx context.Context, cancel context.CancelCauseFunc, missing []*download) (complete bool) {
	slots := make(chan struct{}, parallel)
	results := make(chan error, len(missing))
	for _, d := range missing {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			d.end(context.Cause(ctx))
			results <- context.Cause(ctx)
			continue
		}
		go func() {
			err := d.run(ctx, p.client, p.req.Report)
			if err != nil {
				cancel(err)
			}
			results <- err
			<-slots
		}()
	}
	complete = true
	for range missing {
		if err := <-results; err != nil {
			complete = false
		}
	}
	return complete
}
