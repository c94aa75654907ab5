package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"proot-distro/internal/host"
	"proot-distro/internal/image"
	"proot-distro/internal/platform"
)

// TestPushAgain: an interrupted push is taken up by the next one.
func TestPushAgain(t *testing.T) {
	layer := layerOf("a", 9<<20)
	tests := map[string]struct {
		docker bool
		patch  int64 // the one at which the user has enough
		kept   int64 // bytes of its body that arrive; -1: the answer, too
		lost   bool  // the session is, before the next push
		second []string
	}{
		"the registry keeps what it got": {false, 1, 3 << 20, false, []string{
			"GET blobs/uploads/1", "PATCH blobs/uploads/1 3145728-9437183", "PUT blobs/uploads/1"}},
		"it keeps nothing": {false, 1, 0, false, []string{
			"GET blobs/uploads/1", "PATCH blobs/uploads/1 0-4194303", "PATCH blobs/uploads/1 4194304-8388607",
			"PATCH blobs/uploads/1 8388608-9437183", "PUT blobs/uploads/1"}},
		"it has forgotten": {false, 1, 3 << 20, true, []string{
			"GET blobs/uploads/1", "POST blobs/uploads/", "PATCH blobs/uploads/2", "PUT blobs/uploads/2"}},
		"a paced chunk is waited for": {true, 1, -1, false, []string{
			"GET blobs/uploads/1", "PATCH blobs/uploads/1 1048576-2097151", "PATCH blobs/uploads/1 2097152-9437183", "PUT blobs/uploads/1"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, cache := newSink(t), newCache(t)
			s.docker = tt.docker
			rec := cachedImage(t, cache, platform.X86_64, layer)
			s.stored[repo+"/"+blobPath(rec.Config)] = rec.Config
			ctx, cancel := context.WithCancelCause(context.Background())
			stop := errors.New("stop")
			var patches atomic.Int64
			s.spoil = func(w http.ResponseWriter, r *http.Request, path string) bool {
				if r.Method != http.MethodPatch || patches.Add(1) != tt.patch {
					return false
				}
				if tt.kept < 0 {
					cancel(stop)
					return false
				}
				body := r.Body
				r.Body = http.MaxBytesReader(w, body, tt.kept)
				s.serve(&silent{}, r, path)
				cancel(stop)
				_, _ = io.Copy(io.Discard, body) // until the client hangs up
				panic(http.ErrAbortHandler)
			}
			if _, err := Push(ctx, s.request(t, cache, rec)); !errors.Is(err, stop) {
				t.Fatalf("error %v", err)
			}
			s.log()
			if tt.lost {
				s.mu.Lock()
				delete(s.sessions, "1")
				s.mu.Unlock()
			}
			done := mustSend(t, s.request(t, cache, rec))
			if rest := int64(len(layer)) - tt.kept; !tt.docker && !tt.lost && done.Bytes != rest {
				t.Errorf("%d bytes were sent, not %d", done.Bytes, rest)
			}
			s.has(t, blobPath(layer), layer)
			if got := s.log("uploads"); !slices.Equal(got, tt.second) && !tt.docker || len(got) < 3 {
				t.Errorf("requests %q", got)
			} else if tt.docker && (got[0] != tt.second[0] || got[1] != tt.second[1]) {
				t.Errorf("requests %q", got)
			}
			if len(s.sessions) != 0 {
				t.Errorf("%d sessions are left", len(s.sessions))
			}
		})
	}
}

// TestPushRemembersOnlyItsRegistry: a guest on Termux can write to the cache. It cannot send our
// bytes to somewhere else.
func TestPushRemembersOnlyItsRegistry(t *testing.T) {
	s, dirs := newSink(t), host.Dirs{Cache: t.TempDir()}
	var asked atomic.Int64
	elsewhere := newSink(t)
	elsewhere.spoil = func(http.ResponseWriter, *http.Request, string) bool {
		asked.Add(1)
		return false
	}
	cache := image.OpenCache(dirs)
	rec := cachedImage(t, cache, platform.X86_64, layerOf("a", 5<<20))
	req := s.request(t, cache, rec)
	layers, err := rec.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for name, note := range map[string]string{
		"another host": fmt.Sprintf(`{"location": "%s/v2/%s/blobs/uploads/1", "at": 5}`, elsewhere.URL, repo),
		"no address":   `{"location": ":", "at": 5}`,
		"no JSON":      `{"location": "`,
		"too far":      fmt.Sprintf(`{"location": "%s/v2/%s/blobs/uploads/1", "at": 6000000}`, s.URL, repo),
		"encrypted":    fmt.Sprintf(`{"location": "%s/v2/%s/blobs/uploads/1", "at": 5}`, strings.Replace(s.URL, "http:", "gopher:", 1), repo),
	} {
		u := cache.Upload(s.URL + "/v2/" + repo + " " + layers[0].Digest.String())
		u.Write([]byte(note))
		u.Close()
		s.stored, s.requests = map[string][]byte{}, nil
		mustSend(t, req)
		if log := s.log("GET"); asked.Load() != 0 || len(log) != 0 {
			t.Errorf("%s: %q", name, log)
		}
		if left, err := filepath.Glob(filepath.Join(dirs.Cache, "uploads", "*")); err != nil || len(left) != 0 {
			t.Errorf("%s: %q is left", name, left)
		}
	}
}
