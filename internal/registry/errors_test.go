package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/report"
)

// elsewhere is a registry that is not on this machine, as far as names tell.
func elsewhere(t *testing.T, addr string) Request {
	return Request{
		Ref: mustRef(t, "registry.example/"+repo), Arch: platform.X86_64, Cache: newCache(t), Report: report.Discard,
		pace: quick, Transport: dialing(addr, false),
	}
}

// dialing connects to addr whatever the name.
func dialing(addr string, insecure bool) http.RoundTripper {
	t := newTransport(insecure)
	t.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	return t
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestConnectionErrors(t *testing.T) {
	plain := newFake(t)
	secure := httptest.NewUnstartedServer(plain)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()

	req := elsewhere(t, "")
	req.Transport = failing{&net.DNSError{Err: "no such host", Name: "registry.example", IsNotFound: true}}
	failKind(t, req, DNS, "the address of registry.example could not be found: no such host")

	failKind(t, elsewhere(t, closedPort(t)), Refused, "registry.example refused the connection")
	failKind(t, elsewhere(t, secure.Listener.Addr().String()), TLS, "certificate")

	req = elsewhere(t, silent.Addr().String())
	req.Transport.(*http.Transport).TLSHandshakeTimeout = 50 * time.Millisecond
	req.pace.tries = 1
	failKind(t, req, Timeout, "did not answer in time")

	// No plain http without being told so.
	failKind(t, elsewhere(t, plain.Listener.Addr().String()), TLS, "HTTP response to HTTPS client")
	if n := len(plain.log()); n != 0 {
		t.Errorf("%d requests over plain http", n)
	}
}

type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

func TestInsecure(t *testing.T) {
	f := newFake(t)
	a := layerOf("a", 100)
	f.push("latest", "amd64", a)
	req := elsewhere(t, f.Listener.Addr().String())
	req.Insecure = true
	mustPull(t, req, a)

	secure := httptest.NewUnstartedServer(f)
	secure.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			t.Error("plain http, although https works")
		}
		f.ServeHTTP(w, r)
	})
	secure.TLS = &tls.Config{}
	secure.StartTLS()
	defer secure.Close()
	req = elsewhere(t, "")
	req.Insecure, req.Transport = true, dialing(secure.Listener.Addr().String(), true)
	mustPull(t, req, a)

	req = elsewhere(t, closedPort(t))
	req.Insecure = true
	failKind(t, req, Refused, "refused")
}

// TestTokenServerMustBeSecure: credentials of a registry with TLS never go out in the clear.
func TestTokenServerMustBeSecure(t *testing.T) {
	f := newFake(t)
	f.push("latest", "amd64", layerOf("a", 1))
	s := guard(t, f)
	secure := httptest.NewTLSServer(f)
	defer secure.Close()
	req := elsewhere(t, "")
	req.Transport, req.Auth.UserPass = dialing(secure.Listener.Addr().String(), true), "me:secret"
	failKind(t, req, TLS, "not encrypted")
	if s.issued.Load() != 0 {
		t.Error("a token was asked for")
	}
}

func TestNoDowngradeByRedirect(t *testing.T) {
	f := newFake(t)
	f.push("latest", "amd64", layerOf("a", 1))
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, f.URL+r.URL.Path, http.StatusFound)
	}))
	defer secure.Close()
	req := elsewhere(t, "")
	req.Transport = dialing(secure.Listener.Addr().String(), true)
	failKind(t, req, TLS, "redirects to the unencrypted")
}

func TestStatusErrors(t *testing.T) {
	for _, tt := range []struct {
		code       int
		retryAfter string
		body       string
		kind       Kind
		text       string
		missing    Missing
	}{
		{401, "", "", Unauthorized, "does not exist or needs credentials", 0},
		{403, "", `{"errors":[{"code":"DENIED"}]}`, Forbidden, "denies access", 0},
		{404, "", `{"errors":[{"code":"NAME_UNKNOWN"}]}`, NotFound, `has no repository "team/app"`, MissingRepository},
		{404, "", `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, NotFound, `has no tag "latest"`, MissingTag},
		{404, "", `<html>`, NotFound, `has no tag "latest"`, MissingTag},
		{429, "300", `{"errors":[{"code":"TOOMANYREQUESTS"}]}`, RateLimited, "try again in 5m0s", 0},
		{429, "", "", RateLimited, "try again later", 0},
		{502, "", "", Server, "502 Bad Gateway", 0},
		{503, "3600", "", Server, "503", 0},
		{418, "", "", Protocol, "418", 0},
	} {
		f := newFake(t)
		f.spoil = func(w http.ResponseWriter, r *http.Request, path string) bool {
			if path == "tags/list" {
				return false
			}
			if tt.retryAfter != "" {
				w.Header().Set("Retry-After", tt.retryAfter)
			}
			w.WriteHeader(tt.code)
			_, _ = w.Write([]byte(tt.body))
			return true
		}
		e := failKind(t, f.request(t, newCache(t)), tt.kind, tt.text)
		if e.Missing != tt.missing || e.Registry != f.ref(t).Registry || e.Repository != repo || e.Reference != "latest" {
			t.Errorf("%d: %+v", tt.code, e)
		}
		if tt.retryAfter == "300" && e.RetryAfter != 5*time.Minute {
			t.Errorf("RetryAfter %s", e.RetryAfter)
		}
	}
}

func TestManifestIsAskedForAgain(t *testing.T) {
	f := newFake(t)
	a := layerOf("a", 10)
	f.push("latest", "amd64", a)
	calls := 0
	f.spoil = func(w http.ResponseWriter, r *http.Request, path string) bool {
		if path != "manifests/latest" {
			return false
		}
		switch calls++; calls {
		case 1:
			w.WriteHeader(http.StatusBadGateway)
			return true
		case 2:
			cut(w, f.manifests["latest"], 0, 10)
		}
		return false
	}
	mustPull(t, f.request(t, newCache(t)), a)
}

func TestRetryAfter(t *testing.T) {
	for in, want := range map[string]time.Duration{"": 0, "5": 5 * time.Second, "-1": 0, "x": 0, "99999999999999": 0, "Mon, 02 Jan 2006 15:04:05 GMT": 0} {
		if got := retryAfter(in); got != want {
			t.Errorf("retryAfter(%q) = %s", in, got)
		}
	}
	at := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	if got := retryAfter(at); got < 59*time.Minute || got > time.Hour {
		t.Errorf("retryAfter(%q) = %s", at, got)
	}
}

func TestWrappedCauses(t *testing.T) {
	f := newFake(t)
	f.push("latest", "amd64", layerOf("a", 1))
	req := f.request(t, newCache(t))
	req.Arch = platform.RISCV64
	_, _, err := pullAll(req)
	none := new(oci.NoPlatformError)
	if !errors.As(err, &none) || strings.Join(none.Have, " ") != "linux/amd64" {
		t.Errorf("%v", err)
	}
	req = f.request(t, newCache(t))
	f.onBlob(layerOf("a", 1), func(w http.ResponseWriter, _ *http.Request, _ int) bool { _, _ = w.Write([]byte("x")); return true })
	if _, _, err := pullAll(req); !errors.As(err, new(*image.DigestError)) {
		t.Errorf("%v", err)
	}
}

// TestHTTP2 resumes a stream that was reset, which net/http reports without a type.
func TestHTTP2(t *testing.T) {
	f := newFake(t)
	a := layerOf("a", 100_000)
	f.push("latest", "amd64", a)
	f.onBlob(a, func(w http.ResponseWriter, r *http.Request, call int) bool {
		if r.ProtoMajor != 2 {
			t.Errorf("protocol is %s", r.Proto)
		}
		if call == 1 {
			cut(w, a, 0, 30_000)
		}
		return false
	})
	secure := httptest.NewUnstartedServer(f)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.EnableHTTP2 = true
	secure.StartTLS()
	defer secure.Close()
	req := elsewhere(t, "")
	req.Transport = dialing(secure.Listener.Addr().String(), true)
	mustPull(t, req, a)
	if n := f.count("GET blobs/"); n != 3 { // config, and the layer twice
		t.Errorf("%d blobs were fetched", n)
	}
}
