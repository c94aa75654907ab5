package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// remembered is what a push leaves for a later one.
type remembered struct {
	Location string `json:"location"` // of the session
	At       int64  `json:"at"`       // bytes that it is known to have
}

// recall goes on with the session of an earlier push, if there is one. Only the registry itself is
// asked about it: on Termux a guest can write to the cache.
func (u *upload) recall() {
	d := u.blob.Descriptor()
	u.note = u.cache.Upload(u.client.base + u.client.ref.Repository + " " + d.Digest.String())
	var last remembered
	if json.Unmarshal(u.note.Read(), &last) != nil {
		return
	}
	address, err := url.Parse(last.Location)
	if err != nil || address.Host != u.client.host || u.encrypted(address) != nil || last.At < 0 || last.At > d.Size {
		return
	}
	u.location, u.at, u.best = last.Location, last.At, last.At
	u.unsure, u.recalled = true, true
}

// remember notes the session for a later push.
func (u *upload) remember() {
	if address, err := url.Parse(u.location); err != nil || address.Host != u.client.host {
		return
	}
	if data, err := json.Marshal(remembered{u.location, u.at}); err == nil {
		u.note.Write(data)
	}
}

// leave ends work on a session that a later push can go on with.
func (u *upload) leave(ctx context.Context) {
	if u.whole || u.paced && u.at == 0 || len(u.note.Read()) == 0 {
		u.abandon(ctx)
	}
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
	resp, err := u.client.request(ctx, http.MethodGet, u.location, nil, http.StatusNoContent, http.StatusOK, http.StatusAccepted)
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
	if u.recalled && u.at > 0 {
		u.report.Detailf("%s: going on where an earlier push stopped", u.blob.label)
		u.recalled, u.had = false, u.at
	}
	if u.at > u.size() {
		u.lost()
		return nil
	}
	if u.at <= had { // nothing of a broken chunk was kept
		u.chunk = smallChunk
	}
	if err := u.follow(resp); err != nil {
		return err
	}
	u.choosePace()
	return nil
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

// lost begins anew, in small steps.
func (u *upload) lost() {
	u.location, u.at, u.unsure, u.had = "", 0, false, 0
	if u.recalled {
		u.recalled = false // of another time; this one may go well
		return
	}
	u.chunk = smallChunk
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
	if err := u.encrypted(next); err != nil {
		return err
	}
	u.location = next.String()
	return nil
}

// encrypted refuses to send a blob in the open, where that was not asked for.
func (u *upload) encrypted(to *url.URL) error {
	if to.Scheme == "https" || to.Scheme == "http" && u.client.auth.plain {
		return nil
	}
	return faultf(TLS, "it wants the upload to go unencrypted to %s", to.Host)
}

// abandon closes a session that is of no use, if the registry listens.
func (u *upload) abandon(ctx context.Context) {
	u.note.Write(nil)
	if u.location == "" {
		return
	}
	const patience = 2 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	resp, err := u.client.request(ctx, http.MethodDelete, u.location, nil, http.StatusNoContent, http.StatusOK, http.StatusAccepted)
	if err == nil {
		drain(resp)
	}
	u.location = ""
}
