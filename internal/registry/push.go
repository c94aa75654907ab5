package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/report"
)

// PushRequest is an image in the cache, and where to send it.
type PushRequest struct {
	Ref     oci.Ref
	Records []*oci.Record // one, or those of Index in its order, see [image.Index]
	Index   []byte        // nil for one platform
	// Cache holds the layers. Those that the registry has need not be there.
	Cache    *image.Cache
	Insecure bool // accept bad certificates and plain http; loopback registries may always do so
	Auth     Auth
	Report   report.Reporter
	Version  string // of this program, for User-Agent
	// Transport replaces the network, in tests.
	Transport http.RoundTripper

	pace pace
}

// Pushed is what a push did.
type Pushed struct {
	Digest  digest.Digest // of the manifest or index that has the name now
	Present int           // blobs that the repository had
	Mounted int           // blobs taken from another repository of the registry
	Sent    int           // blobs that were uploaded
	Bytes   int64         // their size, without what an earlier push had sent
}

// pushActions is the scope of a token for Push.
const pushActions = "pull,push"

// storePatience is how long a registry may take to store what it was sent: some
// read a layer once more to compute its digest.
const storePatience = 10 * time.Minute

// LostLayerError says that a layer is neither in the cache nor on the registry.
type LostLayerError struct{ Digest digest.Digest }

func (e *LostLayerError) Error() string {
	return fmt.Sprintf("layer %s is neither in the cache nor on the registry", e.Digest)
}

// Push sends an image to its registry: blobs first, each once and several at a time, then manifests,
// then the index. Blobs that the repository has are not sent, those of other repositories on the
// same registry (see [oci.Record.Origins]) are taken from there. So a name never stands for an
// image that is not there in full.
//
// All documents are checked against their digests before the first request, and layers
// while they are read. Failures of the registry are *Error.
//
// Push holds the cache's shared lock.
func Push(ctx context.Context, req PushRequest) (done Pushed, err error) {
	if err := req.Auth.check(); err != nil {
		return Pushed{}, err
	}
	if req.Report == nil {
		req.Report = report.Discard
	}
	release, err := req.Cache.Lock(image.Shared)
	if err != nil {
		return Pushed{}, err
	}
	defer func() { err = errors.Join(err, release()) }()
	plan, err := planPush(req)
	if err != nil {
		return Pushed{}, fmt.Errorf("push %s: %w", req.Ref, err)
	}
	c, err := connect(ctx, Request{
		Ref: req.Ref, Insecure: req.Insecure, Auth: req.Auth, Report: req.Report,
		Version: req.Version, Transport: req.Transport, pace: req.pace,
	}, pushActions)
	if err != nil {
		return Pushed{}, err
	}
	for _, from := range plan.origins {
		c.auth.sources = append(c.auth.sources, "repository:"+from+":pull")
	}
	p := &pusher{client: c, plan: plan, cache: req.Cache, report: req.Report}
	if err := p.run(ctx); err != nil {
		var damaged *image.DigestError
		if errors.As(err, &damaged) { // in our cache: the registry has no part in it
			return Pushed{}, fmt.Errorf("push %s: %w", req.Ref, damaged)
		}
		return Pushed{}, c.explain(err, plan.reference, MissingUnknown)
	}
	p.done.Digest = plan.documents[len(plan.documents)-1].desc.Digest
	return p.done, nil
}

// pusher is one Push.
type pusher struct {
	client *client
	plan   *pushPlan
	cache  *image.Cache
	report report.Reporter

	mu   sync.Mutex
	done Pushed
}

func (p *pusher) run(ctx context.Context) error {
	if err := p.blobs(ctx); err != nil {
		return err
	}
	for i, doc := range p.plan.documents {
		reference := doc.desc.Digest.String()
		if i == len(p.plan.documents)-1 {
			reference = p.plan.reference
		}
		if err := p.client.putManifest(ctx, reference, doc); err != nil {
			return err
		}
		p.report.Detailf("Manifest %s as %s", doc.desc.Digest, reference)
	}
	return nil
}

// blobs uploads what is missing. The first failure ends all.
func (p *pusher) blobs(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slots := make(chan struct{}, parallel)
	var running sync.WaitGroup
	for _, b := range p.plan.blobs {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		running.Go(func() {
			if err := p.blob(ctx, b); err != nil {
				cancel(err)
			}
			<-slots
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

func (p *pusher) blob(ctx context.Context, b pushBlob) error {
	there, err := p.client.holds(ctx, b.Descriptor())
	if err != nil {
		return err
	}
	u := &upload{client: p.client, blob: b, origins: p.plan.origins, cache: p.cache, report: p.report}
	if !there {
		if err := u.run(ctx); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case there:
		p.done.Present++
		p.report.Detailf("%s is there already", b.label)
	case u.mounted != "":
		p.done.Mounted++
		p.report.Detailf("%s is taken from %s", b.label, u.mounted)
	default:
		p.done.Sent++
		p.done.Bytes += b.Descriptor().Size - u.had
	}
	return nil
}

// holds asks whether the repository certainly has a blob. Whatever speaks against it but a lack
// of credentials is left to the upload to find out.
func (c *client) holds(ctx context.Context, d v1.Descriptor) (there bool, err error) {
	err = c.repeat(ctx, func() error {
		resp, err := c.request(ctx, http.MethodHead, c.blobAddress(d), nil, http.StatusOK)
		if err == nil {
			there = true
			return resp.Body.Close()
		}
		status := new(statusError)
		if errors.As(err, &status) && status.code != http.StatusUnauthorized &&
			status.code != http.StatusTooManyRequests && status.code < 500 { // some know only GET
			return nil
		}
		return err
	})
	return there, err
}

// putManifest sends a manifest or index under a tag or its digest.
func (c *client) putManifest(ctx context.Context, reference string, doc document) error {
	return c.repeat(ctx, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, c.address("manifests/"+reference), bytes.NewReader(doc.data))
		if err != nil {
			return faultf(Protocol, "bad address: %w", err)
		}
		req.Header.Set("Content-Type", doc.desc.MediaType)
		resp, err := c.do(req, http.StatusCreated, http.StatusOK, http.StatusAccepted, http.StatusNoContent)
		if err != nil {
			return err
		}
		drain(resp)
		if got := resp.Header.Get("Docker-Content-Digest"); got != "" && got != doc.desc.Digest.String() {
			return faultf(Protocol, "it stored the manifest %s as %s", doc.desc.Digest, got)
		}
		return nil
	})
}

// drain ends a response whose body says nothing, so that its connection is used again.
func drain(resp *http.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	resp.Body.Close()
}
