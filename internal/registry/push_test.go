package registry

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/host"
	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
)

func blobPath(data []byte) string { return "blobs/" + digest.FromBytes(data).String() }

func TestPush(t *testing.T) {
	s, cache := newSink(t), newCache(t)
	small, big := layerOf("small", 1000), layerOf("big", wholeBlob+1)
	rec := cachedImage(t, cache, platform.X86_64, small, big, small)
	req := s.request(t, cache, rec)
	seen := &notes{}
	req.Report = seen
	done := mustSend(t, req)
	want := Pushed{Digest: digest.FromBytes(rec.Manifest), Sent: 3, Bytes: int64(len(small) + len(big) + len(rec.Config))}
	if diff := cmp.Diff(want, done); diff != "" {
		t.Error(diff)
	}
	for _, data := range [][]byte{small, big, rec.Config} {
		s.has(t, blobPath(data), data)
	}
	s.has(t, "manifests/latest", rec.Manifest)
	if s.types["manifests/latest"] != v1.MediaTypeImageManifest {
		t.Errorf("Content-Type %s", s.types["manifests/latest"])
	}
	for _, task := range seen.tasks {
		if task.n != task.Total || !task.done {
			t.Errorf("meter %+v", task)
		}
	}
	if patches := s.log("PATCH"); len(patches) != 1 || strings.Contains(patches[0], " 0-") {
		t.Errorf("patches %q", patches)
	}

	// Once more, only the manifest travels.
	if diff := cmp.Diff(Pushed{Digest: want.Digest, Present: 3}, mustSend(t, req)); diff != "" {
		t.Error(diff)
	}
	for _, line := range s.log() {
		if !strings.HasPrefix(line, "HEAD ") && line != "PUT manifests/latest" {
			t.Errorf("unexpected %s", line)
		}
	}
}

func TestPushIndex(t *testing.T) {
	s, cache := newSink(t), newCache(t)
	amd := cachedImage(t, cache, platform.X86_64, layerOf("a", 100))
	arm := cachedImage(t, cache, platform.ARM, layerOf("b", 100))
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex}
	for _, rec := range []*oci.Record{amd, arm} {
		index.Manifests = append(index.Manifests, describe(v1.MediaTypeImageManifest, rec.Manifest))
	}
	req := s.request(t, cache, amd, arm)
	req.Index = toJSON(index)
	done := mustSend(t, req)
	if done.Digest != digest.FromBytes(req.Index) || done.Sent != 4 {
		t.Errorf("%+v", done)
	}
	s.has(t, "manifests/latest", req.Index)
	if s.types["manifests/latest"] != v1.MediaTypeImageIndex {
		t.Errorf("Content-Type %s", s.types["manifests/latest"])
	}
	want := []string{}
	for _, rec := range []*oci.Record{amd, arm} {
		s.has(t, "manifests/"+digest.FromBytes(rec.Manifest).String(), rec.Manifest)
		want = append(want, "PUT manifests/"+digest.FromBytes(rec.Manifest).String())
	}
	if diff := cmp.Diff(append(want, "PUT manifests/latest"), s.log("PUT manifests")); diff != "" {
		t.Error(diff)
	}

	// An index of other images is refused before anything is sent.
	for name, records := range map[string][]*oci.Record{"order": {arm, amd}, "one": {amd}, "none": nil} {
		req.Records = records
		if _, err := Push(context.Background(), req); err == nil || len(s.log()) > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPushBrokenUploads: whatever happens on the way, in the end the registry has the bytes.
func TestPushBrokenUploads(t *testing.T) {
	big := layerOf("big", 5<<20)
	abort := func() { panic(http.ErrAbortHandler) }
	// take lets the registry read n bytes of a PATCH before the connection breaks.
	take := func(s *sink, w http.ResponseWriter, r *http.Request, path string, n int64) {
		r.Body = http.MaxBytesReader(w, r.Body, n)
		s.serve(&silent{}, r, path)
		abort()
	}
	tests := map[string]struct {
		spoil func(s *sink, w http.ResponseWriter, r *http.Request, path string, patch int64) bool
		want  string // Content-Range of the last PATCH; empty: not checked
	}{
		"cut once": {func(s *sink, w http.ResponseWriter, r *http.Request, path string, patch int64) bool {
			if patch == 1 {
				take(s, w, r, path, 1<<20)
			}
			return false
		}, "1048576-5242879"},
		"cut more often than there are tries, but always with progress": {func(s *sink, w http.ResponseWriter, r *http.Request, path string, patch int64) bool {
			if patch >= 1 && patch <= 9 {
				take(s, w, r, path, 500_000)
			}
			return false
		}, "4500000-5242879"},
		"cut, and nothing was kept": {func(s *sink, w http.ResponseWriter, r *http.Request, path string, patch int64) bool {
			if patch == 1 {
				abort()
			}
			return false
		}, "4194304-5242879"},
		"cut, and the session is lost": {func(s *sink, w http.ResponseWriter, r *http.Request, path string, patch int64) bool {
			if patch == 1 {
				delete(s.sessions, "1")
				abort()
			}
			return false
		}, "4194304-5242879"},
		"416: the registry has more": {func(s *sink, w http.ResponseWriter, r *http.Request, path string, patch int64) bool {
			if patch == 1 {
				s.sessions["1"].Write(big[:100])
			}
			return false
		}, "100-5242879"},
		"416 to whatever has a range": {func(s *sink, w http.ResponseWriter, r *http.Request, path string, patch int64) bool {
			if patch == 1 {
				take(s, w, r, path, 1<<20)
			} else if patch > 1 {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			}
			return patch > 1
		}, ""},
		"503": {func(s *sink, w http.ResponseWriter, r *http.Request, path string, patch int64) bool {
			if patch == 1 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return patch == 1
		}, ""},
		"no chunks at all": {func(s *sink, w http.ResponseWriter, r *http.Request, path string, patch int64) bool {
			if patch > 0 {
				w.WriteHeader(http.StatusMethodNotAllowed)
			}
			return patch > 0
		}, ""},
		"chunks are not implemented": {func(s *sink, w http.ResponseWriter, r *http.Request, path string, patch int64) bool {
			if patch > 0 {
				w.WriteHeader(http.StatusNotImplemented)
			}
			return patch > 0
		}, ""},
		"the answer to the PUT is lost": {func(s *sink, w http.ResponseWriter, r *http.Request, path string, patch int64) bool {
			if r.Method == http.MethodPut && strings.Contains(path, "uploads") && len(s.stored) == 0 {
				s.serve(&silent{}, r, path)
				abort()
			}
			return false
		}, ""},
		"the registry damages the bytes": {func(s *sink, w http.ResponseWriter, r *http.Request, path string, patch int64) bool {
			if r.Method == http.MethodPut && s.sessions["1"] != nil && s.sessions["1"].Len() > 0 {
				s.sessions["1"].Bytes()[7] ^= 1
			}
			return false
		}, ""},
		"POST needs two tries": {func(s *sink, w http.ResponseWriter, r *http.Request, path string, patch int64) bool {
			s.mu.Lock()
			first := r.Method == http.MethodPost && s.count == 0
			if first {
				s.count++
			}
			s.mu.Unlock()
			if first {
				w.WriteHeader(http.StatusBadGateway)
			}
			return first
		}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, cache := newSink(t), newCache(t)
			rec := cachedImage(t, cache, platform.X86_64, big)
			var patches atomic.Int64
			s.spoil = func(w http.ResponseWriter, r *http.Request, path string) bool {
				if r.Method == http.MethodHead && path == blobPath(rec.Config) {
					return true // it is there, so that the only uploads are the layer's
				}
				n := int64(0)
				if r.Method == http.MethodPatch {
					n = patches.Add(1)
				}
				return tt.spoil(s, w, r, path, n)
			}
			done := mustSend(t, s.request(t, cache, rec))
			if done.Bytes > int64(len(big)) {
				t.Errorf("%+v", done)
			}
			s.has(t, blobPath(big), big)
			s.has(t, "manifests/latest", rec.Manifest)
			if p := s.log("PATCH"); tt.want != "" && !strings.HasSuffix(p[len(p)-1], " "+tt.want) {
				t.Errorf("patches %q, the last should be %s", p, tt.want)
			}
		})
	}
}

// silent takes an answer that nobody gets.
type silent struct{ header http.Header }

func (s *silent) Header() http.Header {
	if s.header == nil {
		s.header = http.Header{}
	}
	return s.header
}
func (s *silent) Write(p []byte) (int, error) { return len(p), nil }
func (s *silent) WriteHeader(int)             {}

// TestPushBodyLimit: a proxy that takes no large bodies gets smaller ones.
func TestPushBodyLimit(t *testing.T) {
	s, cache := newSink(t), newCache(t)
	big := layerOf("big", smallChunk+100)
	rec := cachedImage(t, cache, platform.X86_64, big)
	s.spoil = func(w http.ResponseWriter, r *http.Request, path string) bool {
		if r.ContentLength > smallChunk {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return true
		}
		return false
	}
	mustSend(t, s.request(t, cache, rec))
	s.has(t, blobPath(big), big)
	if p := s.log("PATCH"); len(p) != 3 || !strings.HasSuffix(p[2], " 4194304-4194403") {
		t.Errorf("patches %q", p)
	}
}

func TestPushGivesUp(t *testing.T) {
	s, cache := newSink(t), newCache(t)
	rec := cachedImage(t, cache, platform.X86_64, layerOf("big", 5<<20))
	var repaired atomic.Bool
	s.spoil = func(w http.ResponseWriter, r *http.Request, path string) bool {
		if r.Method == http.MethodPatch && !repaired.Load() {
			panic(http.ErrAbortHandler)
		}
		return false
	}
	_, err := Push(context.Background(), s.request(t, cache, rec))
	if e := new(Error); !errors.As(err, &e) || e.Kind != Network || !e.Push {
		t.Errorf("error %v", err)
	}
	log := s.log()
	if n := len(filter(log, "PATCH")); n != quick.tries {
		t.Errorf("%d tries", n)
	}
	if n := len(filter(log, "manifests")); n != 0 {
		t.Error("a manifest of missing blobs was sent")
	}

	// The next push goes on with the session.
	repaired.Store(true)
	mustSend(t, s.request(t, cache, rec))
	if log = s.log("uploads"); len(filter(log, "GET blobs/uploads/")) != 1 || len(filter(log, "POST")) != 0 || len(s.sessions) != 0 {
		t.Errorf("requests %q and %d sessions", log, len(s.sessions))
	}
}

func filter(lines []string, word string) (found []string) {
	for _, line := range lines {
		if strings.Contains(line, word) {
			found = append(found, line)
		}
	}
	return found
}

func TestPushMount(t *testing.T) {
	base, own := layerOf("base", 5<<20), layerOf("own", 5000)
	for name, tt := range map[string]struct {
		origins []string
		has     string // the repository that holds base
		denied  bool   // mounts are answered with 403
		mounted int
		mounts  int // requests
	}{
		"accepted":             {[]string{"base/debian"}, "base/debian", false, 1, 3},
		"by the second":        {[]string{"x/y", "base/debian"}, "base/debian", false, 1, 6},
		"refused":              {[]string{"base/debian"}, "elsewhere", false, 0, 3},
		"denied":               {[]string{"base/debian"}, "base/debian", true, 0, 3},
		"of another registry":  {[]string{"ghcr.io/base/debian"}, "base/debian", false, 0, 0},
		"of the repository":    {[]string{repo}, repo + "x", false, 0, 0},
		"more than is good":    {[]string{"a", "b", "c", "base/debian"}, "base/debian", false, 0, 9},
		"the image names none": {nil, "base/debian", false, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, cache := newSink(t), newCache(t)
			s.stored[tt.has+"/"+blobPath(base)] = base
			rec := cachedImage(t, cache, platform.X86_64, base, own)
			for _, origin := range tt.origins {
				if !strings.Contains(origin, ".") {
					origin = strings.TrimPrefix(s.URL, "http://") + "/" + origin
				}
				rec.AddOrigins(mustRef(t, origin))
			}
			s.spoil = func(w http.ResponseWriter, r *http.Request, path string) bool {
				if tt.denied && r.URL.Query().Has("mount") {
					w.WriteHeader(http.StatusForbidden)
					return true
				}
				return false
			}
			done := mustSend(t, s.request(t, cache, rec))
			if done.Mounted != tt.mounted || done.Mounted+done.Sent != 3 {
				t.Errorf("%+v", done)
			}
			s.has(t, blobPath(base), base)
			s.has(t, blobPath(own), own)
			if got := s.log("from"); tt.mounted == 0 && len(got) != tt.mounts || len(got) > tt.mounts {
				t.Errorf("mounts %q", got)
			}
			if len(s.sessions) != 0 {
				t.Errorf("%d sessions are left", len(s.sessions))
			}
		})
	}
}

// TestPushChecksFirst: nothing is sent of an image that is not what its digests say.
func TestPushChecksFirst(t *testing.T) {
	s, cache := newSink(t), newCache(t)
	layer := layerOf("a", 100)
	rec := cachedImage(t, cache, platform.X86_64, layer)
	good := *rec
	rec.Config = append([]byte(" "), rec.Config...)
	var bad *image.DigestError
	if _, err := Push(context.Background(), s.request(t, cache, rec)); !errors.As(err, &bad) {
		t.Errorf("error %v", err)
	}
	req := s.request(t, cache, &good)
	req.Ref.Tag, req.Ref.Digest = "", digest.FromString("other").String()
	if _, err := Push(context.Background(), req); err == nil || !strings.Contains(err.Error(), "another digest") {
		t.Errorf("error %v", err)
	}
	req.Auth.UserPass = "nocolon"
	if _, err := Push(context.Background(), req); !errors.Is(err, errNoColon) {
		t.Errorf("error %v", err)
	}
	if log := s.log(); len(log) != 0 {
		t.Errorf("sent all the same: %q", log)
	}
	req.Auth.UserPass, req.Ref.Digest = "", digest.FromBytes(good.Manifest).String()
	mustSend(t, req)
	s.has(t, "manifests/"+req.Ref.Digest, good.Manifest)
}

func TestPushDamagedLayer(t *testing.T) {
	for _, size := range []int{1000, 5 << 20} {
		dirs := host.Dirs{Cache: filepath.Join(t.TempDir(), "cache")}
		cache := image.OpenCache(dirs)
		s, layer := newSink(t), layerOf("a", size)
		rec := cachedImage(t, cache, platform.X86_64, layer)
		file := filepath.Join(dirs.Layers(), "sha256_"+digest.FromBytes(layer).Encoded())
		damaged := append([]byte{}, layer...)
		damaged[size/2] ^= 1
		if err := os.WriteFile(file, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Push(context.Background(), s.request(t, cache, rec))
		var bad *image.DigestError
		if remote := new(Error); !errors.As(err, &bad) || errors.As(err, &remote) {
			t.Errorf("error %v", err)
		}
		if len(s.stored) > 1 || len(s.log("PUT manifests")) != 0 { // the config may be there
			t.Errorf("the registry has %d documents", len(s.stored))
		}
		var lost *LostLayerError
		if _, err = Push(context.Background(), s.request(t, cache, rec)); !errors.As(err, &lost) {
			t.Errorf("error %v", err)
		}
	}
}

// TestPushMissingLayer: what the registry has need not be in the cache.
func TestPushMissingLayer(t *testing.T) {
	s, layer := newSink(t), layerOf("a", 1000)
	rec := cachedImage(t, newCache(t), platform.X86_64, layer)
	s.stored[repo+"/"+blobPath(layer)] = layer
	mustSend(t, s.request(t, newCache(t), rec))
	s.has(t, "manifests/latest", rec.Manifest)
}

func TestPushOfThePythonProgramsRecord(t *testing.T) {
	s, cache := newSink(t), newCache(t)
	rec := cachedImage(t, cache, platform.X86_64, layerOf("a", 1000))
	want := rec.Manifest
	rec.Manifest = []byte(strings.Replace(string(want), `{`, `{"_ct": "application/vnd.oci.image.manifest.v1+json", `, 1))
	mustSend(t, s.request(t, cache, rec))
	s.has(t, "manifests/latest", want)
}
