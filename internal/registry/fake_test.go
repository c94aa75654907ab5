package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/host"
	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/report"
)

// fake is a registry whose every answer a test can spoil.
type fake struct {
	*httptest.Server
	mu        sync.Mutex
	manifests map[string][]byte // by tag and digest
	blobs     map[string][]byte // by digest
	requests  []string          // "GET manifests/latest"
	// spoil answers a request itself when it returns true; path is "manifests/latest".
	spoil func(w http.ResponseWriter, r *http.Request, path string) bool
}

func newFake(t *testing.T) *fake {
	f := &fake{manifests: map[string][]byte{}, blobs: map[string][]byte{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

const repo = "team/app"

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, "/v2/"+repo+"/")
	if !ok {
		return // the probe
	}
	f.mu.Lock()
	f.requests = append(f.requests, r.Method+" "+path)
	f.mu.Unlock()
	if f.spoil != nil && f.spoil(w, r, path) {
		return
	}
	f.serve(w, r, path)
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request, path string) {
	if path == "tags/list" {
		fmt.Fprint(w, `{"tags":["one","two"]}`)
		return
	}
	kind, reference, _ := strings.Cut(path, "/")
	data, ok := f.blobs[reference]
	if kind == "manifests" {
		data, ok = f.manifests[reference]
		w.Header().Set("Content-Type", "application/json") // the document decides
	}
	if !ok {
		code := map[string]string{"manifests": "MANIFEST_UNKNOWN", "blobs": "BLOB_UNKNOWN"}[kind]
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"not here"}]}`, code)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

func (f *fake) log() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	log := f.requests
	f.requests = nil
	return log
}

// count returns how many of the requests so far begin with prefix.
func (f *fake) count(prefix string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

func (f *fake) ref(t *testing.T) oci.Ref {
	return mustRef(t, strings.TrimPrefix(f.URL, "http://")+"/"+repo)
}

func mustRef(t *testing.T, s string) oci.Ref {
	t.Helper()
	ref, err := oci.ParseRef(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func toJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

func describe(mediaType string, data []byte) v1.Descriptor {
	return v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// push puts an image of one platform under a tag and returns its manifest.
func (f *fake) push(tag, architecture string, layers ...[]byte) v1.Descriptor {
	config := v1.Image{Platform: v1.Platform{OS: "linux", Architecture: architecture}}
	m := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest}
	for _, l := range layers {
		d := describe(v1.MediaTypeImageLayer, l)
		f.blobs[d.Digest.String()] = l
		m.Layers = append(m.Layers, d)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, d.Digest)
	}
	c := toJSON(config)
	m.Config = describe(v1.MediaTypeImageConfig, c)
	f.blobs[m.Config.Digest.String()] = c
	d := f.putManifest(tag, toJSON(m))
	d.Platform = &config.Platform
	return d
}

func (f *fake) putManifest(tag string, data []byte) v1.Descriptor {
	d := describe(v1.MediaTypeImageManifest, data)
	f.manifests[d.Digest.String()] = data
	if tag != "" {
		f.manifests[tag] = data
	}
	return d
}

func (f *fake) pushIndex(tag string, entries ...v1.Descriptor) {
	f.putManifest(tag, toJSON(v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: entries}))
}

// layerOf makes n bytes that no other seed gives.
func layerOf(seed string, n int) []byte {
	var b bytes.Buffer
	for sum := digest.FromString(seed); b.Len() < n; sum = digest.FromString(sum.String()) {
		b.WriteString(sum.Encoded())
	}
	return b.Bytes()[:n]
}

// TestMain keeps the accounts of whoever runs the tests out of them.
func TestMain(m *testing.M) {
	home, err := os.MkdirTemp("", "registry-test")
	if err != nil {
		panic(err)
	}
	for _, variable := range []string{"DOCKER_CONFIG", "XDG_RUNTIME_DIR"} {
		os.Setenv(variable, home)
	}
	os.Unsetenv("REGISTRY_AUTH_FILE")
	code := m.Run()
	os.RemoveAll(home)
	os.Exit(code)
}

func newCache(t *testing.T) *image.Cache {
	t.Helper()
	return image.OpenCache(host.Dirs{Cache: filepath.Join(t.TempDir(), "cache")})
}

var quick = pace{stall: 5 * time.Second, tries: 3, pause: time.Millisecond}

func (f *fake) request(t *testing.T, cache *image.Cache) Request {
	return Request{
		Ref: f.ref(t), Typed: "as typed", Arch: platform.X86_64, Cache: cache, Report: report.Discard,
		Version: "1.2", pace: quick,
	}
}

// pullAll pulls and reads every layer.
func pullAll(req Request) (layers [][]byte, img *image.Image, err error) {
	img, err = Pull(context.Background(), req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	for _, l := range img.Layers {
		data, err := readBlob(l)
		if err != nil {
			return nil, img, err
		}
		layers = append(layers, data)
	}
	return layers, img, nil
}

func readBlob(b image.Blob) ([]byte, error) {
	r, err := b.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// mustPull pulls and compares with what was pushed.
func mustPull(t *testing.T, req Request, want ...[]byte) *image.Image {
	t.Helper()
	got, img, err := pullAll(req)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("%d layers, want %d", len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Errorf("layer %d differs", i+1)
		}
	}
	return img
}

// failKind pulls and wants an *Error of a kind.
func failKind(t *testing.T, req Request, kind Kind, text string) *Error {
	t.Helper()
	_, _, err := pullAll(req)
	e := new(Error)
	if !errors.As(err, &e) {
		t.Fatalf("error is %v, want an *Error of kind %d", err, kind)
	}
	if e.Kind != kind || !strings.Contains(e.Error(), text) || strings.Contains(e.Error(), "\n") {
		t.Errorf("error is %q of kind %d, want kind %d with %q", e, e.Kind, kind, text)
	}
	return e
}

// notes remembers what a person would see.
type notes struct {
	mu    sync.Mutex
	lines []string
	tasks []*note
}

type note struct {
	report.Task
	mu   sync.Mutex
	n    int64
	done bool
}

func (n *note) Add(k int64) { n.mu.Lock(); n.n += k; n.mu.Unlock() }
func (n *note) Done()       { n.mu.Lock(); n.done = true; n.mu.Unlock() }

func (n *notes) add(kind, format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, kind+fmt.Sprintf(format, args...))
}
func (n *notes) Infof(format string, args ...any)   { n.add("info: ", format, args...) }
func (n *notes) Warnf(format string, args ...any)   { n.add("warning: ", format, args...) }
func (n *notes) Detailf(format string, args ...any) { n.add("detail: ", format, args...) }
func (n *notes) Begin(t report.Task) report.Meter {
	n.mu.Lock()
	defer n.mu.Unlock()
	task := &note{Task: t}
	n.tasks = append(n.tasks, task)
	return task
}

func (n *notes) text() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.lines, "\n")
}
