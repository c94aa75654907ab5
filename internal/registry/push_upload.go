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

	"proot-distro/internal/image"
	"proot-distro/internal/report"
)

// How a blob travels.
const (
	// wholeBlob is the size up to which a blob goes in one PUT: nothing is worth resuming there.
	wholeBlob = 4 << 20
	// smallChunk is what is sent at a time once a registry has lost something longer. GitHub's takes
	// no more.
	smallChunk = 4 << 20
	// firstChunk is the first one of an upload whose chunks are paced, maxChunk the longest.
	firstChunk, maxChunk = 1 << 20, 256 << 20
	// chunkTime is how long a paced chunk shall be on its way.
	chunkTime = time.Second
	// linger is how long an interrupted push waits for a paced chunk.
	linger = 2 * chunkTime
)

// upload sends one blob (OCI distribution spec, "Pushing blobs"): POST opens a session, PATCH sends
// bytes, PUT closes it. One PATCH carries all of them, as other programs do it, without a range. When
// the connection breaks, the registry is asked how much it has, and the next PATCH goes on
// there; so does a later push. A registry that wants no chunks gets the blob in one PUT.
//
// Docker's registry (before version 3) loses a session whose PATCH breaks off. It gets paced chunks,
// between which a push can be interrupted and a proxy that collects requests can fail.
type upload struct {
	client  *client
	blob    pushBlob
	origins []string // repositories that were not asked yet
	report  report.Reporter
	cache   *image.Cache
	note    *image.Upload // for a later push
	mounted string        // the one that had the blob

	location string // of the session; empty before the first and after a lost one
	at       int64  // bytes that the session has
	best     int64  // the most that any session had
	had      int64  // bytes that an earlier push has sent
	unsure   bool   // at must be asked for
	recalled bool   // the session is that of an earlier push
	again    bool   // not the first session
	chunk    int64  // longest PATCH; 0: all the rest
	paced    bool   // chunk follows the speed of the connection
	refused  int    // ranges
	least    int64  // shortest PATCH that the registry takes, but for the last
	whole    bool   // one PUT with all bytes

	source source
}

func (u *upload) size() int64 { return u.blob.Descriptor().Size }

// run goes on until the registry has the blob. Only failures in a row without progress count.
func (u *upload) run(ctx context.Context) error {
	u.source.blob = u.blob
	if u.whole = u.size() <= wholeBlob; !u.whole {
		u.recall()
		defer u.note.Close()
	}
	defer u.source.close()
	for failures := 0; ; {
		best := u.best
		err := u.attempt(ctx)
		if err == nil {
			u.note.Forget()
			return nil
		}
		if u.source.err != nil {
			return u.source.err
		}
		if ctx.Err() != nil {
			u.leave(ctx)
			return context.Cause(ctx)
		}
		again, asked := u.judge(err)
		if u.best > best {
			failures = 0
		}
		if failures++; !again {
			u.abandon(ctx)
			return err
		}
		if failures >= u.client.pace.tries {
			u.leave(ctx)
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
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := u.patch(ctx); err != nil {
			u.unsure = true
			return err
		}
		u.remember()
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
	resp, err := u.client.request(ctx, http.MethodPost, u.client.address("blobs/uploads/"), nil, http.StatusAccepted)
	if err != nil {
		return false, err
	}
	drain(resp)
	u.at = 0
	if least, err := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64); err == nil {
		u.least = least
	}
	if err := u.follow(resp); err != nil {
		return false, err
	}
	u.opened()
	return false, nil
}

// opened begins with a session.
func (u *upload) opened() {
	u.choosePace()
	u.remember()
}

// choosePace finds out whether this is Docker's registry, or one made of it.
func (u *upload) choosePace() {
	if address, err := url.Parse(u.location); err == nil && address.Query().Has("_state") {
		u.paced, u.chunk = true, firstChunk
	}
}

// mount asks for the blob of another repository. A registry that does not want to opens a
// session instead, which is good for the upload when nobody else is to be asked.
func (u *upload) mount(ctx context.Context, from string) error {
	query := url.Values{"mount": {u.blob.Descriptor().Digest.String()}, "from": {from}}
	address := u.client.address("blobs/uploads/?" + query.Encode())
	resp, err := u.client.request(ctx, http.MethodPost, address, nil, http.StatusCreated, http.StatusAccepted)
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
	} else {
		u.opened()
	}
	return nil
}

// patch sends the next chunk.
func (u *upload) patch(ctx context.Context) error {
	n, header := u.size()-u.at, http.Header{}
	if u.chunk > 0 || u.at > 0 {
		if u.chunk > 0 {
			n = min(n, max(u.chunk, u.least))
		}
		header.Set("Content-Range", fmt.Sprintf("%d-%d", u.at, u.at+n-1))
	}
	if u.paced {
		var stop func()
		ctx, stop = lingering(ctx)
		defer stop()
	}
	start := time.Now()
	resp, err := u.send(ctx, http.MethodPatch, u.location, header, n, http.StatusAccepted, http.StatusNoContent, http.StatusCreated)
	if err != nil {
		return err
	}
	drain(resp)
	u.advance(u.at + n)
	u.refused = 0
	if u.paced {
		speed := float64(n) / max(time.Since(start), time.Millisecond).Seconds()
		u.chunk = min(max(int64(speed*chunkTime.Seconds()), firstChunk), maxChunk)
	}
	return u.follow(resp)
}

// lingering gives a context that ends a moment later.
func lingering(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(parent))
	unwatch := context.AfterFunc(parent, func() {
		select {
		case <-ctx.Done():
		case <-time.After(linger):
			cancel(context.Cause(parent))
		}
	})
	return ctx, func() {
		unwatch()
		cancel(nil)
	}
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
	case code == http.StatusRequestedRangeNotSatisfiable:
		u.refused++
		u.whole = u.whole || u.refused > 1
		return true, 0
	case slices.Contains(status.codes, "DIGEST_INVALID"):
		u.lost() // whatever it has, it is of no use
		return true, 0
	case code == http.StatusNotFound,
		slices.Contains(status.codes, "BLOB_UPLOAD_INVALID"), slices.Contains(status.codes, "BLOB_UPLOAD_UNKNOWN"):
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
