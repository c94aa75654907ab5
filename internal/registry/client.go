package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/image"
	"proot-distro/internal/oci"
)

// client speaks the OCI distribution protocol with one repository.
type client struct {
	ref  oci.Ref
	base string // "https://registry-1.docker.io/v2/"
	host string // host[:port] in base
	http *http.Client
	auth *authorizer
	pace pace
}

// pace is how patient a client is.
type pace struct {
	stall time.Duration // a body of which nothing comes for so long is cut off
	tries int           // in a row without progress
	pause time.Duration // before the second try; doubles
}

var usualPace = pace{stall: 45 * time.Second, tries: 5, pause: 500 * time.Millisecond}

// wait sleeps before try n (from 1), or as long as the registry asked for.
func (p pace) wait(ctx context.Context, n int, asked time.Duration) error {
	delay := min(p.pause<<(n-1), 16*p.pause)
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(max(delay, asked)):
		return nil
	}
}

// repeat does something again where that may help. Only failures in a row without any progress are counted.
func (p pace) repeat(ctx context.Context, do func() (progress bool, err error)) error {
	for failures := 0; ; {
		progress, err := do()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if progress {
			failures = 0
		}
		again, asked := retryable(err)
		if failures++; !again || failures >= p.tries {
			return err
		}
		if err := p.wait(ctx, failures, asked); err != nil {
			return err
		}
	}
}

// patience is the longest time a registry may ask us to wait before we give up
// and tell the user.
const patience = 20 * time.Second

// connect prepares a client. It sends no request, unless it must find out whether a
// registry that may speak plain http does.
func connect(ctx context.Context, req Request, actions string) (*client, error) {
	c := &client{ref: req.Ref, host: req.Ref.Registry, pace: req.pace}
	if c.pace == (pace{}) {
		c.pace = usualPace
	}
	if c.host == oci.DockerHub {
		c.host = "registry-1.docker.io"
	}
	insecure := req.Insecure || req.Ref.Loopback()
	inner := req.Transport
	if inner == nil {
		transport := newTransport(insecure)
		if actions == pushActions {
			transport.ResponseHeaderTimeout = storePatience
		}
		inner = transport
	}
	c.auth = &authorizer{
		inner:    &courteous{inner: inner, userAgent: userAgent(req.Version), stall: c.pace.stall},
		registry: req.Ref.Registry, host: c.host,
		scope: "repository:" + req.Ref.Repository + ":" + actions,
		auth:  req.Auth, report: req.Report,
		pushing: actions == pushActions,
	}
	c.http = &http.Client{Transport: c.auth, CheckRedirect: checkRedirect}
	scheme := "https"
	if insecure {
		var err error
		if scheme, err = c.probe(ctx); err != nil {
			return nil, c.explain(err, "", MissingUnknown)
		}
		c.auth.plain = scheme == "http"
	}
	c.base = scheme + "://" + c.host + "/v2/"
	return c, nil
}

func userAgent(version string) string { return "proot-distro/" + cmp.Or(version, "unknown") }

// probe tells whether the registry speaks https or only plain http. Any answer will do;
// it is not asked with credentials.
func (c *client) probe(ctx context.Context) (scheme string, err error) {
	direct := &http.Client{Transport: c.auth.inner, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var first error
	for _, scheme := range []string{"https", "http"} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+c.host+"/v2/", nil)
		if err != nil {
			return "", faultf(Protocol, "bad registry name: %w", err)
		}
		resp, err := direct.Do(req)
		if err == nil {
			drain(resp)
			return scheme, nil
		}
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		first = cmp.Or(first, err)
	}
	return "", first
}

// request sends one request. An answer whose status is not wanted is a *statusError.
func (c *client) request(ctx context.Context, method, address string, header http.Header, wanted ...int) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return nil, faultf(Protocol, "bad address: %w", err)
	}
	for key, values := range header {
		req.Header[key] = values
	}
	return c.do(req, wanted...)
}

// address is the URL of a path below the repository.
func (c *client) address(path string) string { return c.base + c.ref.Repository + "/" + path }

func (c *client) blobAddress(d v1.Descriptor) string { return c.address("blobs/" + d.Digest.String()) }

func (c *client) do(req *http.Request, wanted ...int) (*http.Response, error) {
	ctx := req.Context()
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	if slices.Contains(wanted, resp.StatusCode) {
		return resp, nil
	}
	return nil, newStatusError(resp)
}

// retryable reports whether trying again may help, and how long the registry wants us
// to wait before.
func retryable(err error) (bool, time.Duration) {
	if errors.Is(err, context.Canceled) || isLocal(err) {
		return false, 0
	}
	switch kindOf(err) {
	case Timeout, Network, Server:
	case RateLimited:
		// Without a time it is most likely a quota of hours.
		status := new(statusError)
		ok := errors.As(err, &status) && status.retryAfter > 0 && status.retryAfter <= patience
		return ok, status.retryAfter
	default:
		return false, 0
	}
	if status := new(statusError); errors.As(err, &status) {
		return status.retryAfter <= patience, status.retryAfter
	}
	return true, 0
}

// get fetches a small document, trying again where that may help.
func (c *client) get(ctx context.Context, address string, header http.Header, limit int64) (data []byte, mediaType string, err error) {
	err = c.repeat(ctx, func() (err error) {
		data, mediaType, err = c.getOnce(ctx, address, header, limit)
		return err
	})
	return data, mediaType, err
}

// repeat tries again what takes one request, where that may help.
func (c *client) repeat(ctx context.Context, do func() error) error {
	few := c.pace
	few.tries = min(3, few.tries)
	return few.repeat(ctx, func() (bool, error) { return false, do() })
}

func (c *client) getOnce(ctx context.Context, address string, header http.Header, limit int64) ([]byte, string, error) {
	resp, err := c.request(ctx, http.MethodGet, address, header, http.StatusOK)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, "", broken(err)
	}
	if int64(len(data)) > limit {
		return nil, "", faultf(TooLarge, "%s is larger than %d bytes", address, limit)
	}
	return data, resp.Header.Get("Content-Type"), nil
}

// manifest fetches a manifest or index by tag or digest; a digest is verified.
func (c *client) manifest(ctx context.Context, reference string) (data []byte, mediaType string, err error) {
	data, mediaType, err = c.get(ctx, c.address("manifests/"+reference), http.Header{"Accept": oci.ManifestTypes()}, oci.MaxManifestSize)
	if err != nil {
		return nil, "", err
	}
	if want, derr := oci.ParseDigest(reference); derr == nil {
		err = verify("manifest", data, want)
	}
	return data, mediaType, err
}

// tags lists the repository's tags, as far as one answer holds them.
func (c *client) tags(ctx context.Context) ([]string, error) {
	const limit = 1 << 20
	data, _, err := c.getOnce(ctx, c.address("tags/list?n=1000"), nil, limit)
	if err != nil {
		return nil, err
	}
	var list struct {
		Tags []string `json:"tags"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, faultf(Protocol, "its list of tags is not JSON")
	}
	return slices.DeleteFunc(list.Tags, func(tag string) bool {
		_, err := oci.ParseRef("x:" + tag)
		return err != nil // no tag, whatever it is
	}), nil
}

// config fetches an image config.
func (c *client) config(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	data, _, err := c.get(ctx, c.blobAddress(d), nil, min(d.Size, oci.MaxConfigSize))
	if err != nil {
		return nil, err
	}
	return data, verify("image config", data, d.Digest)
}

func verify(what string, data []byte, want digest.Digest) error {
	if got := digest.FromBytes(data); got != want {
		return &image.DigestError{What: what, Want: string(want), Got: string(got)}
	}
	return nil
}

// has asks whether the repository still holds a blob.
func (c *client) has(ctx context.Context, d v1.Descriptor) (bool, error) {
	resp, err := c.request(ctx, http.MethodHead, c.blobAddress(d), nil, http.StatusOK)
	if err == nil {
		return true, resp.Body.Close()
	}
	status := new(statusError)
	if !errors.As(err, &status) {
		return false, err
	}
	// Some CDNs know only GET: everything but a clear no counts as yes.
	return status.code != http.StatusNotFound, nil
}

// blob asks for the bytes of a blob from offset on. The answer is 206, 200 (the
// whole blob all the same) or 416.
func (c *client) blob(ctx context.Context, d v1.Descriptor, offset int64) (*http.Response, error) {
	header := http.Header{}
	wanted := []int{http.StatusOK}
	if offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
		wanted = append(wanted, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable)
	}
	return c.request(ctx, http.MethodGet, c.blobAddress(d), header, wanted...)
}
