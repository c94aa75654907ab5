package registry

import (
	"cmp"
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"time"

	"proot-distro/internal/oci"
	"proot-distro/internal/report"
)

// Reached is how a registry could be reached, as far as that went.
type Reached struct {
	Registry string `json:"registry"`
	Host     string `json:"host"` // docker.io's is another
	// Proxy is the URL of the proxy in between, without credentials; empty for none.
	Proxy string `json:"proxy,omitempty"`
	// Address is the other end of the connection: IP:port, the proxy's if there is one.
	Address string `json:"address,omitempty"`
	// TLS is the protocol's version; empty for plain http.
	TLS string `json:"tls,omitempty"`
	// Status is the HTTP status of /v2/. A registry that wants credentials says 401.
	Status int `json:"status,omitempty"`
	// Skew is how much this machine's clock is ahead of the registry's, as far as whole
	// seconds tell; 0 when the registry names no time.
	Skew time.Duration `json:"-"`
	Took time.Duration `json:"-"`
}

// Reach asks a registry for /v2/, without credentials. Of the request, only the registry,
// Insecure, Version and Transport count. Failures are *Error.
func Reach(ctx context.Context, req Request) (Reached, error) {
	r := Reached{Registry: req.Ref.Registry}
	req.Ref, req.Report = oci.Ref{Registry: req.Ref.Registry}, report.Discard
	begun := time.Now()
	c, err := connect(httptrace.WithClientTrace(ctx, r.trace()), req, "")
	if err != nil {
		return r, err
	}
	defer c.http.CloseIdleConnections()
	r.Host = c.host
	get, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, r.trace()), http.MethodGet, c.base, nil)
	if err != nil {
		return r, c.explain(faultf(Protocol, "bad address: %w", err), "", MissingUnknown)
	}
	if proxy, err := http.ProxyFromEnvironment(get); err == nil && proxy != nil && req.Transport == nil {
		r.Proxy = (&url.URL{Scheme: proxy.Scheme, Host: proxy.Host}).String()
	}
	direct := &http.Client{Transport: c.auth.inner, CheckRedirect: checkRedirect}
	resp, err := direct.Do(get)
	if err != nil {
		return r, c.explain(err, "", MissingUnknown)
	}
	r.Took, r.Status = time.Since(begun), resp.StatusCode
	if resp.TLS != nil {
		r.TLS = tls.VersionName(resp.TLS.Version)
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		r.Skew = time.Since(date).Truncate(time.Second)
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusUnauthorized {
		return r, c.explain(newStatusError(resp), "", MissingUnknown)
	}
	return r, resp.Body.Close()
}

func (r *Reached) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		r.Address = cmp.Or(r.Address, info.Conn.RemoteAddr().String())
	}}
}
