package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
)

// sink is a registry that takes pushes, as the OCI distribution spec wants it. Of a body that breaks off
// it keeps what it got. A test can spoil every answer.
type sink struct {
	*httptest.Server
	mu       sync.Mutex
	stored   map[string][]byte // "team/app/blobs/sha256:…", "team/app/manifests/latest"
	types    map[string]string // of manifests
	sessions map[string]*bytes.Buffer
	count    int
	requests []string // "PATCH blobs/uploads/1 0-99"
	docker   bool     // locations are those of Docker's registry
	spoil    func(w http.ResponseWriter, r *http.Request, path string) bool
}

func newSink(t *testing.T) *sink {
	s := &sink{stored: map[string][]byte{}, types: map[string]string{}, sessions: map[string]*bytes.Buffer{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, "/v2/"+repo+"/")
	if !ok {
		return // the probe
	}
	s.mu.Lock()
	line := r.Method + " " + path
	if q := r.URL.Query(); q.Has("mount") {
		line += " from " + q.Get("from")
	}
	if at := r.Header.Get("Content-Range"); at != "" {
		line += " " + at
	}
	s.requests = append(s.requests, line)
	s.mu.Unlock()
	if s.spoil != nil && s.spoil(w, r, path) {
		return
	}
	s.serve(w, r, path)
}

func (s *sink) serve(w http.ResponseWriter, r *http.Request, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, isSession := strings.CutPrefix(path, "blobs/uploads/")
	switch {
	case r.Method == http.MethodHead:
		if _, ok := s.stored[repo+"/"+path]; !ok {
			w.WriteHeader(http.StatusNotFound)
		}
	case strings.HasPrefix(path, "manifests/") && r.Method == http.MethodPut:
		data, _ := io.ReadAll(r.Body)
		s.stored[repo+"/"+path], s.types[path] = data, r.Header.Get("Content-Type")
		w.Header().Set("Docker-Content-Digest", digest.FromBytes(data).String())
		w.WriteHeader(http.StatusCreated)
	case isSession && id == "" && r.Method == http.MethodPost:
		s.open(w, r)
	case isSession && s.sessions[id] == nil:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"no such session"}]}`)
	case isSession:
		s.session(w, r, id)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (s *sink) open(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if data, ok := s.stored[q.Get("from")+"/blobs/"+q.Get("mount")]; ok {
		s.stored[repo+"/blobs/"+q.Get("mount")] = data
		w.WriteHeader(http.StatusCreated)
		return
	}
	s.count++
	id := fmt.Sprint(s.count)
	s.sessions[id] = &bytes.Buffer{}
	s.place(w, id)
	w.WriteHeader(http.StatusAccepted)
}

func (s *sink) place(w http.ResponseWriter, id string) {
	n := s.sessions[id].Len()
	location := fmt.Sprintf("/v2/%s/blobs/uploads/%s?state=a%%2Fb&n=%d", repo, id, n)
	if s.docker {
		location += "&_state=x"
	}
	w.Header().Set("Location", location)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, n-1)))
}

func (s *sink) session(w http.ResponseWriter, r *http.Request, id string) {
	buf := s.sessions[id]
	if q := r.URL.Query(); q.Get("state") != "a/b" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	switch r.Method {
	case http.MethodGet:
		s.place(w, id)
		w.WriteHeader(http.StatusNoContent)
	case http.MethodDelete:
		delete(s.sessions, id)
		w.WriteHeader(http.StatusNoContent)
	case http.MethodPatch:
		var first int
		_, err := fmt.Sscanf(r.Header.Get("Content-Range"), "%d-", &first)
		if streamed := r.Header.Get("Content-Range") == ""; err != nil && !streamed || first != buf.Len() {
			s.place(w, id)
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		_, _ = io.Copy(buf, r.Body)
		s.place(w, id)
		w.WriteHeader(http.StatusAccepted)
	case http.MethodPut:
		_, _ = io.Copy(buf, r.Body)
		want := r.URL.Query().Get("digest")
		delete(s.sessions, id)
		if digest.FromBytes(buf.Bytes()).String() != want {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"errors":[{"code":"DIGEST_INVALID","message":"not what it should be"}]}`)
			return
		}
		s.stored[repo+"/blobs/"+want] = buf.Bytes()
		w.Header().Set("Docker-Content-Digest", want)
		w.WriteHeader(http.StatusCreated)
	}
}

// log returns the requests since the last call that hold all the words.
func (s *sink) log(words ...string) (found []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.requests {
		all := true
		for _, word := range words {
			all = all && strings.Contains(line, word)
		}
		if all {
			found = append(found, line)
		}
	}
	s.requests = nil
	return found
}

func (s *sink) has(t *testing.T, path string, want []byte) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if got, ok := s.stored[repo+"/"+path]; !ok || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes (%v), want %d", path, len(got), ok, len(want))
	}
}

// cachedImage puts an image into the cache, as build does.
func cachedImage(t *testing.T, cache *image.Cache, arch platform.Arch, layers ...[]byte) *oci.Record {
	t.Helper()
	var config v1.Image
	config.OS = "linux"
	config.Architecture, config.Variant = arch.OCI()
	m := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest}
	for _, l := range layers {
		d, err := cache.WriteBlob(l)
		if err != nil {
			t.Fatal(err)
		}
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: v1.MediaTypeImageLayer, Digest: d, Size: int64(len(l))})
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, d)
	}
	c := toJSON(config)
	m.Config = describe(v1.MediaTypeImageConfig, c)
	return &oci.Record{ImageRef: repo, Arch: arch, Repo: repo, Manifest: toJSON(m), Config: c}
}

func (s *sink) request(t *testing.T, cache *image.Cache, records ...*oci.Record) PushRequest {
	return PushRequest{
		Ref: mustRef(t, strings.TrimPrefix(s.URL, "http://")+"/"+repo), Records: records, Cache: cache,
		Version: "1.2", pace: quick,
	}
}

func mustSend(t *testing.T, req PushRequest) Pushed {
	t.Helper()
	done, err := Push(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	return done
}
