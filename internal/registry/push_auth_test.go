package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proot-distro/internal/platform"
)

// tokens guards a sink: answer decides on each request for a token, and only the newest token is good.
func (s *sink) tokens(t *testing.T, answer func(r *http.Request) int) (issued *atomic.Int64) {
	issued = &atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if code := answer(r); code != http.StatusOK {
			w.WriteHeader(code)
			return
		}
		fmt.Fprintf(w, `{"token":"%d"}`, issued.Add(1))
	}))
	t.Cleanup(server.Close)
	s.spoil = func(w http.ResponseWriter, r *http.Request, path string) bool {
		if r.Header.Get("Authorization") == fmt.Sprint("Bearer ", issued.Load()) {
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="x",scope="repository:%s:pull,push"`, server.URL, repo))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	return issued
}

// TestPushScopes: one token serves for the repository and those that blobs are mounted from; a
// token server that does not like the latter gets asked without them.
func TestPushScopes(t *testing.T) {
	for _, strict := range []bool{false, true} {
		s, cache := newSink(t), newCache(t)
		base := layerOf("base", 1000)
		s.stored["base/debian/"+blobPath(base)] = base
		rec := cachedImage(t, cache, platform.X86_64, base)
		rec.AddOrigins(mustRef(t, strings.TrimPrefix(s.URL, "http://")+"/base/debian"))
		var last []string
		issued := s.tokens(t, func(r *http.Request) int {
			last = r.URL.Query()["scope"]
			if strict && len(last) > 1 {
				return http.StatusForbidden
			}
			return http.StatusOK
		})
		done := mustSend(t, s.request(t, cache, rec))
		if done.Mounted != 1 || issued.Load() != 1 {
			t.Errorf("%+v with %d tokens", done, issued.Load())
		}
		want := []string{"repository:" + repo + ":pull,push", "repository:base/debian:pull"}
		if strict {
			want = want[:1]
		}
		if diff := cmp.Diff(want, last); diff != "" {
			t.Error(diff)
		}
	}
}

// TestPushTokenExpires while a layer is on its way.
func TestPushTokenExpires(t *testing.T) {
	s, cache := newSink(t), newCache(t)
	big := layerOf("big", 5<<20)
	rec := cachedImage(t, cache, platform.X86_64, big)
	issued := s.tokens(t, func(*http.Request) int { return http.StatusOK })
	check := s.spoil
	var once atomic.Bool
	s.spoil = func(w http.ResponseWriter, r *http.Request, path string) bool {
		if r.Method == http.MethodPatch && once.CompareAndSwap(false, true) {
			issued.Add(1) // the token that the client has is old now
		}
		return check(w, r, path)
	}
	mustSend(t, s.request(t, cache, rec))
	s.has(t, blobPath(big), big)
}

func TestPushRefused(t *testing.T) {
	wrong := func(r *http.Request) int {
		if _, _, given := r.BasicAuth(); given {
			return http.StatusUnauthorized
		}
		return http.StatusOK
	}
	for name, tt := range map[string]struct {
		userPass string
		answer   func(*http.Request) int // of the token server; nil: there is none
		code     int                     // of the registry to POST
		kind     Kind
		text     string
	}{
		"wrong password":    {"me:wrong", wrong, 0, Unauthorized, "refused the credentials"},
		"no right to push":  {"me:right", func(*http.Request) int { return 200 }, 401, Unauthorized, "do not permit to push"},
		"anonymous":         {"", func(*http.Request) int { return 200 }, 401, Unauthorized, "needs credentials"},
		"forbidden":         {"me:right", nil, 403, Forbidden, "does not permit to push to"},
		"no such project":   {"", nil, 404, NotFound, repo},
		"read-only":         {"", nil, 405, ReadOnly, "accepts no pushes"},
		"something else":    {"", nil, 418, Protocol, "refused the image: 418"},
		"out of order":      {"", nil, 500, Server, "out of order"},
		"too many requests": {"", nil, 429, RateLimited, "limits the number"},
	} {
		t.Run(name, func(t *testing.T) {
			s, cache := newSink(t), newCache(t)
			rec := cachedImage(t, cache, platform.X86_64, layerOf("a", 100))
			check := func(http.ResponseWriter, *http.Request, string) bool { return false }
			if tt.answer != nil {
				s.tokens(t, tt.answer)
				check = s.spoil
			}
			s.spoil = func(w http.ResponseWriter, r *http.Request, path string) bool {
				if tt.code != 0 && r.Method == http.MethodPost {
					w.WriteHeader(tt.code)
					return true
				}
				return check(w, r, path)
			}
			req := s.request(t, cache, rec)
			seen := &notes{}
			req.Report, req.Auth.UserPass = seen, tt.userPass
			_, err := Push(context.Background(), req)
			e := new(Error)
			if !errors.As(err, &e) || e.Kind != tt.kind || !e.Push || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %v, want %q", err, tt.text)
			}
			if strings.Contains(seen.text(), "anonymously") {
				t.Errorf("messages: %s", seen.text())
			}
			if len(s.stored) != 0 {
				t.Errorf("%d documents were stored", len(s.stored))
			}
		})
	}
}
