package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"proot-distro/internal/report"
)

// How a blob travels.
const (
	// wholeBlob is the size up to which a blob goes in one PUT: nothing is worth resuming there.
	wholeBlob = 4 << 20
	// smallChunk is what is sent at a time once a registry has lost a longer chunk.
	smallChunk = 16 << 20
)

// upload sends one blob (OCI distribution spec, "Pushing blobs"): POST opens a session, PATCH sends
// all the rest in one chunk, PUT closes it. When the connection breaks, the registry is asked how
// much it has, and the next PATCH goes on there. A registry that wants no chunks gets the blob in
// one PUT.
type upload struct {
	client  *client
	blob    pushBlob
	origins []string // repositories that were not asked yet
	report  report.Reporter
	mounted string // the one that had the blob

	location string // of the session; empty before the first and after a lost one
	at       int64  // bytes that the session has
	best     int64  // the most that any session had
	unsure   bool   // at must be asked for
	again    bool   // not the first session
	chunk    int64  // longest PATCH; 0: no limit
	least    int64  // shortest PATCH that the registry takes, but for the last
	whole    bool   // one PUT with all bytes

	source source
}

func (u *upload) size() int64 { return u.blob.Descriptor().Size }

// run goes on until the registry has the blob. Only failures in a row without progress count.
func (u *upload) run(ctx context.Context) error {
	u.source.blob = u.blob
	u.whole = u.size() <= wholeBlob
	defer u.source.close()
	for failures := 0; ; {
		best := u.best
		err := u.attempt(ctx)
		if err == nil {
			return nil
		}
		if u.source.err != nil {
			return u.source.err
		}
		if ctx.Err() != nil {
			u.abandon(ctx)
			return context.Cause(ctx)
		}
		again, asked := u.judge(err)
		if u.best > best {
			failures = 0
		}
		if failures++; !again || failures >= u.client.pace.tries {
			u.abandon(ctx)
			return err
		}
		if err := u.client.pace.wait(ctx, failures, asked); err != nil {
			return err
		}
	}
}

// attempt goes on from what is known of the session.
func (u *upload) attempt(ctx context.Context) error {
	if u.unsure {
		if err := u.resume(ctx); err != nil {
			return err
		}
	}
	if u.location == "" {
		if done, err := u.begin(ctx); err != nil || done {
			return err
		}
	}
	for !u.whole && u.at < u.size() {
		if err := u.patch(ctx); err != nil {
			u.unsure = true
			return err
		}
	}
	if err := u.finish(ctx); err != nil {
		u.unsure = true
		return err
	}
	return nil
}

// begin opens a session, unless the blob turns out to be there.
func (u *upload) begin(ctx context.Context) (done bool, err error) {
	if u.again { // the answer to the last PUT may have been lost
		if there, err := u.client.holds(ctx, u.blob.Descriptor()); err != nil || there {
			return there, err
		}
	}
	for len(u.origins) > 0 && u.location == "" {
		from := u.origins[0]
		u.origins = u.origins[1:]
		if err := u.mount(ctx, from); err != nil {
			return false, err
		}
		if u.mounted != "" {
			return true, nil
		}
	}
	u.again = true
	if u.location != "" {
		return false, nil
	}
	resp, err := u.client.request(ctx, http.MethodPost, "blobs/uploads/", nil, http.StatusAccepted)
	if err != nil {
		return false, err
	}
	drain(resp)
	u.at = 0
	if least, err := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64); err == nil {
		u.least = least
	}
	return false, u.follow(resp)
}

// mount asks for the blob of another repository. A registry that does not want to opens a
// session instead, which is good for the upload when nobody else is to be asked.
func (u *upload) mount(ctx context.Context, from string) error {
	query := url.Values{"mount": {u.blob.Descriptor().Digest.String()}, "from": {from}}
	resp, err := u.client.request(ctx, http.MethodPost, "blobs/uploads/?"+query.Encode(), nil, http.StatusCreated, http.StatusAccepted)
	if status := new(statusError); errors.As(err, &status) && status.code < 500 {
		return nil // a plain POST will tell what is wrong
	} else if err != nil {
		return err
	}
	drain(resp)
	if resp.StatusCode == http.StatusCreated {
		u.mounted = from
		return nil
	}
	if err := u.follow(resp); err != nil {
		return err
	}
	u.at = 0
	if len(u.origins) > 0 {
		u.abandon(ctx)
	}
	return nil
}

// patch sends the next chunk.
func (u *upload) patch(ctx context.Context) error {
	n := u.size() - u.at
	if u.chunk > 0 {
		n = min(n, max(u.chunk, u.least))
	}
	header := http.Header{"Content-Range": {fmt.Sprintf("%d-%d", u.at, u.at+n-1)}}
	resp, err := u.send(ctx, http.MethodPatch, u.location, header, n, http.StatusAccepted, http.StatusNoContent, http.StatusCreated)
	if err != nil {
		return err
	}
	drain(resp)
	u.advance(u.at + n)
	return u.follow(resp)
}

// finish closes the session.
func (u *upload) finish(ctx context.Context) error {
	address, err := url.Parse(u.location)
	if err != nil {
		return faultf(Protocol, "bad address: %w", err)
	}
	if address.RawQuery != "" { // kept as it is: it may be signed
		address.RawQuery += "&"
	}
	d := u.blob.Descriptor()
	address.RawQuery += url.Values{"digest": {d.Digest.String()}}.Encode()
	n := int64(0)
	if u.whole {
		u.at, n = 0, d.Size
	}
	resp, err := u.send(ctx, http.MethodPut, address.String(), nil, n, http.StatusCreated, http.StatusOK, http.StatusNoContent)
	if err != nil {
		return err
	}
	drain(resp)
	if got := resp.Header.Get("Docker-Content-Digest"); got != "" && got != d.Digest.String() {
		return faultf(Protocol, "it stored the blob %s as %s", d.Digest, got)
	}
	return nil
}

// send sends n bytes of the blob from at on.
func (u *upload) send(ctx context.Context, method, address string, header http.Header, n int64, wanted ...int) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return nil, faultf(Protocol, "bad address: %w", err)
	}
	for key, values := range header {
		req.Header[key] = values
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	if n == 0 {
		return u.client.do(req, wanted...)
	}
	if u.source.meter == nil {
		u.source.meter = u.report.Begin(report.Task{Label: u.blob.label, Total: u.size()})
	}
	body, err := u.source.section(u.at, n)
	if err != nil {
		return nil, err
	}
	req.Body, req.ContentLength = body, n
	resp, err := u.client.do(req, wanted...)
	<-body.closed // the transport may read on after its answer
	if err != nil && kindOf(err) == Protocol && !errors.As(err, new(*statusError)) && !errors.As(err, new(*fault)) {
		err = &fault{Network, err} // net/http has many without a type
	}
	return resp, err
}

// resume asks how much of the blob the session has. A session that is gone leaves location empty.
func (u *upload) resume(ctx context.Context) error {
	u.unsure = false
	if u.whole {
		u.abandon(ctx)
	}
	if u.location == "" {
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.location, nil)
	if err != nil {
		return faultf(Protocol, "bad address: %w", err)
	}
	resp, err := u.client.do(req, http.StatusNoContent, http.StatusOK, http.StatusAccepted)
	if status := new(statusError); errors.As(err, &status) && status.code < 500 &&
		status.code != http.StatusUnauthorized && status.code != http.StatusTooManyRequests {
		u.lost()
		return nil
	} else if err != nil {
		u.unsure = true
		return err
	}
	drain(resp)
	had := u.at
	u.advance(sessionHas(resp))
	if u.at > u.size() {
		u.lost()
		return nil
	}
	if u.at <= had { // nothing of a broken chunk was kept
		u.chunk = smallChunk
	}
	return u.follow(resp)
}

// sessionHas reads "Range: 0-N". Some registries say 0-0 of an empty session, so that a
// single byte counts as none.
func sessionHas(resp *http.Response) int64 {
	var first, last int64
	n, _ := fmt.Sscanf(resp.Header.Get("Range"), "%d-%d", &first, &last)
	if n != 2 || first != 0 || last <= 0 {
		return 0
	}
	return last + 1
}

func (u *upload) lost() {
	u.location, u.at, u.chunk = "", 0, smallChunk
}

func (u *upload) advance(at int64) {
	u.at, u.best = at, max(u.best, at)
}

// follow takes the session's address, which every answer may change.
func (u *upload) follow(resp *http.Response) error {
	said := resp.Header.Get("Location")
	if said == "" && resp.Request.Method != http.MethodPost {
		return nil
	}
	next, err := resp.Request.URL.Parse(said)
	if err != nil || said == "" || next.Host == "" {
		return faultf(Protocol, "it names no address for the upload, but %q", said)
	}
	if next.Host == u.client.host && !u.client.auth.plain {
		next.Scheme = "https" // proxies let registries believe that they speak plain http
	}
	if next.Scheme != "https" && (next.Scheme != "http" || !u.client.auth.plain) {
		return faultf(TLS, "it wants the upload to go unencrypted to %s", next.Host)
	}
	u.location = next.String()
	return nil
}

// abandon closes a session that is of no use, if the registry listens.
func (u *upload) abandon(ctx context.Context) {
	if u.location == "" {
		return
	}
	const patience = 2 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if req, err := http.NewRequestWithContext(ctx, http.MethodDelete, u.location, nil); err == nil {
		if resp, err := u.client.do(req, http.StatusNoContent, http.StatusOK, http.StatusAccepted); err == nil {
			drain(resp)
		}
	}
	u.location = ""
}

// judge reports whether another attempt may help, and changes the way of travel where the
// registry does not like it.
func (u *upload) judge(err error) (again bool, asked time.Duration) {
	status := new(statusError)
	if !errors.As(err, &status) || u.location == "" {
		return retryable(err)
	}
	switch code := status.code; {
	case code == http.StatusUnauthorized:
		return true, 0 // the token has expired; the next request can be sent twice, and renews it
	case code == http.StatusNotFound, code == http.StatusRequestedRangeNotSatisfiable,
		slices.Contains(status.codes, "BLOB_UPLOAD_INVALID"), slices.Contains(status.codes, "BLOB_UPLOAD_UNKNOWN"),
		slices.Contains(status.codes, "DIGEST_INVALID"):
		return true, 0
	case code == http.StatusRequestEntityTooLarge && !u.whole && u.chunk == 0:
		u.chunk = smallChunk
		return true, 0
	case u.whole, code == http.StatusForbidden, code == http.StatusTooManyRequests, code >= 500 && code != http.StatusNotImplemented:
		return retryable(err)
	}
	u.whole = true
	return true, 0
}
