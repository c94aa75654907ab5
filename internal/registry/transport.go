package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

// newTransport is the way to the network. Every phase before the body is bounded
// here; the body by [courteous].
func newTransport(insecure bool) *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: 60 * time.Second,
		IdleConnTimeout:       60 * time.Second,
		MaxIdleConnsPerHost:   parallel,
		ForceAttemptHTTP2:     true,
		// A digest is over the bytes as stored: nobody may unpack them on the way.
		DisableCompression: true,
		ReadBufferSize:     64 << 10,
		WriteBufferSize:    64 << 10,
		TLSClientConfig:    &tls.Config{InsecureSkipVerify: insecure},
	}
}

// courteous names the program to servers, and cuts off bodies of which nothing more comes or goes.
type courteous struct {
	inner     http.RoundTripper
	userAgent string
	stall     time.Duration
}

func (t *courteous) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	req = req.Clone(ctx)
	req.Header.Set("User-Agent", t.userAgent)
	if req.Body != nil && req.Body != http.NoBody {
		req.Body = &sending{req.Body, time.AfterFunc(t.stall, func() { cancel(errStalled) }), t.stall}
	}
	resp, err := t.inner.RoundTrip(req)
	if err != nil {
		if context.Cause(ctx) == errStalled {
			err = errStalled
		}
		cancel(nil)
		return nil, err
	}
	body := &watched{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, stall: t.stall}
	body.timer = time.AfterFunc(t.stall, func() { cancel(errStalled) })
	resp.Body = body
	return resp, nil
}

// sending is the body of a request, of which the network must take more within stall.
type sending struct {
	io.ReadCloser
	timer *time.Timer
	stall time.Duration
}

func (s *sending) Read(p []byte) (int, error) {
	s.timer.Reset(s.stall)
	return s.ReadCloser.Read(p)
}

func (s *sending) Close() error {
	s.timer.Stop()
	return s.ReadCloser.Close()
}

// watched is a body whose reads must not take longer than stall.
type watched struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if n > 0 {
		w.timer.Reset(w.stall)
	}
	if err != nil && err != io.EOF {
		if cause := context.Cause(w.ctx); cause != nil {
			err = cause
		}
	}
	return n, err
}

func (w *watched) Close() error {
	w.timer.Stop()
	err := w.ReadCloser.Close()
	w.cancel(nil)
	return err
}

// checkRedirect follows a registry to its CDN, but never from https to plain http.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return faultf(Protocol, "more than 10 redirects")
	}
	last := via[len(via)-1]
	if req.URL.Scheme != "https" && last.URL.Scheme == "https" {
		return faultf(TLS, "it redirects to the unencrypted %s", req.URL.Host)
	}
	if req.URL.Scheme != "https" && req.URL.Scheme != "http" {
		return errors.New("redirect to an unknown scheme")
	}
	// Authorization set by [authorizer] does not follow; this is for the token server.
	if req.URL.Host != via[0].URL.Host {
		req.Header.Del("Authorization")
	}
	return nil
}
