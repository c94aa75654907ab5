package registry

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"proot-distro/internal/oci"
)

func TestReach(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		ahead  time.Duration
		kind   Kind // of the error; -1 for none
	}{
		"open":          {http.StatusOK, 0, -1},
		"with accounts": {http.StatusUnauthorized, 0, -1},
		"slow clock":    {http.StatusOK, time.Hour, -1},
		"no registry":   {http.StatusNotFound, 0, NotFound},
		"out of order":  {http.StatusBadGateway, 0, Server},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v2/" || r.Header.Get("Authorization") != "" {
				t.Errorf("%s: asked for %s with %q", name, r.URL, r.Header)
			}
			w.Header().Set("Date", time.Now().Add(tc.ahead).UTC().Format(http.TimeFormat))
			w.WriteHeader(tc.status)
		}))
		host := strings.TrimPrefix(server.URL, "http://")
		got, err := Reach(context.Background(), Request{Ref: oci.Ref{Registry: host}, Auth: Auth{UserPass: "a:b"}})
		e := new(Error)
		if tc.kind < 0 && err != nil || tc.kind >= 0 && (!errors.As(err, &e) || e.Kind != tc.kind) {
			t.Errorf("%s: %v", name, err)
		}
		if skew := got.Skew + tc.ahead; got.Status != tc.status || got.Address != host || got.TLS != "" || skew < -2*time.Second || skew > 5*time.Second {
			t.Errorf("%s: %+v", name, got)
		}
		server.Close()
	}
	e := new(Error)
	if _, err := Reach(context.Background(), Request{Ref: oci.Ref{Registry: closedPort(t)}}); !errors.As(err, &e) || e.Kind != Refused {
		t.Errorf("nobody there: %v", err)
	}
	if got, err := Reach(context.Background(), Request{Ref: oci.Ref{Registry: "registry.invalid"}}); !errors.As(err, &e) || e.Kind != DNS || got.Host != "registry.invalid" {
		t.Errorf("no such name: %v, %+v", err, got)
	}
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	if _, err := Reach(context.Background(), Request{Ref: oci.Ref{Registry: "registry.invalid"}, Transport: redirectTo(secure)}); !errors.As(err, &e) || e.Kind != TLS {
		t.Errorf("a strange certificate: %v", err)
	}
}

// redirectTo is a network in which every name leads to a server whose certificate is not known.
func redirectTo(s *httptest.Server) http.RoundTripper {
	transport := newTransport(false)
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dial(ctx, network, s.Listener.Addr().String())
	}
	return transport
}
