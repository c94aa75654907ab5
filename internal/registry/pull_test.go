package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/host"
	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
)

func TestPullIndexThenOffline(t *testing.T) {
	f, cache := newFake(t), newCache(t)
	a, b := layerOf("a", 300_000), layerOf("b", 10)
	f.pushIndex("latest", f.push("", "arm64", layerOf("x", 5)), f.push("", "amd64", a, b, a))
	f.spoil = func(w http.ResponseWriter, r *http.Request, path string) bool {
		if ua := r.Header.Get("User-Agent"); ua != "proot-distro/1.2" {
			t.Errorf("User-Agent %q", ua)
		}
		if r.Header.Get("Accept-Encoding") != "" {
			t.Errorf("Accept-Encoding %q invites a proxy to change bytes", r.Header.Get("Accept-Encoding"))
		}
		return false
	}
	req := f.request(t, cache)
	seen := &notes{}
	req.Report = seen
	img := mustPull(t, req, a, b, a)
	if img.Record.ImageRef != "as typed" || img.Record.Arch != platform.X86_64 || img.Record.Repo != "" {
		t.Errorf("record %+v", img.Record)
	}
	for _, task := range seen.tasks {
		if task.n != task.Total || !task.done {
			t.Errorf("progress of %q: %d of %d, done %v", task.Label, task.n, task.Total, task.done)
		}
	}
	if len(seen.tasks) != 2 || !strings.HasPrefix(seen.tasks[0].Label, "Layer ") || !strings.Contains(seen.tasks[0].Label, "/3 ") {
		t.Errorf("progress lines: %+v", seen.tasks)
	}
	if n := f.count("GET blobs/"); n != 3 { // config and two different layers
		t.Errorf("%d blobs were fetched: %v", n, f.requests)
	}

	f.Close() // from here on everything comes from the cache
	req.Typed, req.Transport = "typed anew", forbidden{t}
	if img := mustPull(t, req, a, b, a); img.Record.ImageRef != "typed anew" {
		t.Errorf("record of a cached image says %q", img.Record.ImageRef)
	}
}

// forbidden is a network that nobody may use.
type forbidden struct{ t *testing.T }

func (n forbidden) RoundTrip(r *http.Request) (*http.Response, error) {
	n.t.Errorf("a cached image caused %s %s", r.Method, r.URL)
	return nil, errors.New("no network")
}

func TestOnlyMissingLayersAreFetched(t *testing.T) {
	f := newFake(t)
	dirs := host.Dirs{Cache: t.TempDir()}
	cache := image.OpenCache(dirs)
	a, b := layerOf("a", 1000), layerOf("b", 1000)
	f.push("latest", "amd64", a, b)
	mustPull(t, f.request(t, cache), a, b)
	if err := os.Remove(filepath.Join(dirs.Layers(), "sha256_"+digest.FromBytes(b).Encoded())); err != nil {
		t.Fatal(err)
	}
	f.log()
	mustPull(t, f.request(t, cache), a, b)
	want := []string{"HEAD blobs/" + digest.FromBytes(b).String(), "GET blobs/" + digest.FromBytes(b).String()}
	if diff := cmp.Diff(want, f.log()); diff != "" {
		t.Error(diff)
	}

	// The tag moved on and the old layer was deleted: the new image is pulled.
	if err := os.Remove(filepath.Join(dirs.Layers(), "sha256_"+digest.FromBytes(b).Encoded())); err != nil {
		t.Fatal(err)
	}
	delete(f.blobs, digest.FromBytes(b).String())
	c := layerOf("c", 1000)
	f.push("latest", "amd64", a, c)
	mustPull(t, f.request(t, cache), a, c)
}

func TestDamagedCachedLayerIsFetchedAnew(t *testing.T) {
	f := newFake(t)
	dirs := host.Dirs{Cache: t.TempDir()}
	cache := image.OpenCache(dirs)
	a := layerOf("a", 1000)
	f.push("latest", "amd64", a)
	mustPull(t, f.request(t, cache), a)
	name := filepath.Join(dirs.Layers(), "sha256_"+digest.FromBytes(a).Encoded())
	if err := os.WriteFile(name, layerOf("evil", 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := pullAll(f.request(t, cache)); !errors.As(err, new(*image.DigestError)) {
		t.Fatalf("damaged layer: %v", err)
	}
	mustPull(t, f.request(t, cache), a)
}

func TestPullByDigest(t *testing.T) {
	f := newFake(t)
	a := layerOf("a", 100)
	d := f.push("latest", "amd64", a)
	req := f.request(t, newCache(t))
	req.Ref.Digest, req.Ref.Tag = d.Digest.String(), ""
	mustPull(t, req, a)

	other := digest.FromString("other").String()
	f.manifests[other] = f.manifests["latest"] // a registry that lies
	req.Ref.Digest = other
	failKind(t, req, BadDigest, "manifest is damaged")
}

func TestRefusedImages(t *testing.T) {
	f := newFake(t)
	layer := layerOf("a", 10)
	f.push("amd64", "amd64", layer)
	f.pushIndex("index", f.push("", "arm64", layer), f.push("", "s390x", layer))
	f.putManifest("schema1", []byte(`{"schemaVersion":1,"fsLayers":[]}`))
	f.putManifest("junk", []byte(`<html>`))
	f.putManifest("huge", []byte(`{"x":"`+strings.Repeat("x", oci.MaxManifestSize)+`"}`))
	edit := func(tag, from, to string) {
		f.putManifest(tag, []byte(strings.Replace(string(f.manifests["amd64"]), from, to, 1)))
	}
	edit("helm", v1.MediaTypeImageConfig, "application/vnd.cncf.helm.config.v1+json")
	edit("foreign", `"layers":[{`, `"layers":[{"urls":["https://example.com/x"],`)
	edit("nolayers", `"layers":[`, `"layers":[],"x":[`)
	loop := f.putManifest("", []byte(`{"schemaVersion":2,"manifests":[]}`))
	loop.MediaType = v1.MediaTypeImageIndex
	for range 5 {
		data := toJSON(v1.Index{Manifests: []v1.Descriptor{loop}})
		loop = f.putManifest("loop", data)
		loop.MediaType = v1.MediaTypeImageIndex
	}
	for _, tt := range []struct {
		tag, text string
		arch      platform.Arch
		kind      Kind
	}{
		{"amd64", "only for linux/amd64", platform.ARM, NoPlatform},
		{"index", "only for linux/arm64, linux/s390x", platform.X86_64, NoPlatform},
		{"schema1", "schema 1", platform.X86_64, Unsupported},
		{"junk", "manifest", platform.X86_64, Unsupported},
		{"huge", "larger than", platform.X86_64, TooLarge},
		{"helm", "not a container image", platform.X86_64, Unsupported},
		{"foreign", "foreign layer", platform.X86_64, Unsupported},
		{"nolayers", "0 layers but its config names 1", platform.X86_64, Unsupported},
		{"loop", "nested", platform.X86_64, Protocol},
		{"nosuch", `no tag "nosuch"`, platform.X86_64, NotFound},
	} {
		t.Run(tt.tag, func(t *testing.T) {
			cache := newCache(t)
			req := f.request(t, cache)
			req.Ref.Tag, req.Arch = tt.tag, tt.arch
			failKind(t, req, tt.kind, tt.text)
			if list, err := cache.List(); err != nil || len(list) != 0 {
				t.Errorf("cache lists %v, %v", list, err)
			}
		})
	}
}

// TestStreaming: a reader gets the bytes while the registry still holds back the rest.
func TestStreaming(t *testing.T) {
	f, cache := newFake(t), newCache(t)
	a := layerOf("a", 200_000)
	d := f.push("latest", "amd64", a).Digest
	goOn := make(chan struct{})
	f.spoil = func(w http.ResponseWriter, r *http.Request, path string) bool {
		if path != "blobs/"+digest.FromBytes(a).String() {
			return false
		}
		w.Header().Set("Content-Length", "200000")
		_, _ = w.Write(a[:1000])
		w.(http.Flusher).Flush()
		<-goOn
		_, _ = w.Write(a[1000:])
		return true
	}
	img, err := Pull(context.Background(), f.request(t, cache))
	if err != nil {
		t.Fatal(err, d)
	}
	r, err := img.Layers[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 1000)
	if _, err := io.ReadFull(r, first); err != nil {
		t.Fatal(err)
	}
	if cache.Has(img.Layers[0].Descriptor()) {
		t.Error("the layer counts as cached before it is complete")
	}
	close(goOn)
	rest, err := io.ReadAll(r)
	if err != nil || string(first)+string(rest) != string(a) {
		t.Errorf("%d bytes, %v", len(first)+len(rest), err)
	}
	again, err := readBlob(img.Layers[0]) // a second reader, after the end
	if err != nil || string(again) != string(a) {
		t.Errorf("second reader: %d bytes, %v", len(again), err)
	}
	if err := errors.Join(r.Close(), img.Close()); err != nil {
		t.Error(err)
	}
}

// TestCloseStopsDownloads: Close ends a reader that waits, keeps the bytes, and the next
// run asks for the rest only.
func TestCloseStopsDownloads(t *testing.T) {
	f, cache := newFake(t), newCache(t)
	a := layerOf("a", 100_000)
	f.push("latest", "amd64", a)
	sent := make(chan struct{})
	f.spoil = func(w http.ResponseWriter, r *http.Request, path string) bool {
		if path != "blobs/"+digest.FromBytes(a).String() {
			return false
		}
		w.Header().Set("Content-Length", "100000")
		_, _ = w.Write(a[:60_000])
		w.(http.Flusher).Flush()
		close(sent)
		<-r.Context().Done()
		return true
	}
	img, err := Pull(context.Background(), f.request(t, cache))
	if err != nil {
		t.Fatal(err)
	}
	r, err := img.Layers[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	<-sent
	if _, err := io.ReadFull(r, make([]byte, 60_000)); err != nil {
		t.Fatal(err)
	}
	result := make(chan error)
	go func() { _, err := r.Read(make([]byte, 1)); result <- err }()
	if err := img.Close(); err != nil {
		t.Error(err)
	}
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("a waiting reader got %v", err)
	}
	r.Close()
	if _, err := cache.Lookup(f.ref(t), platform.X86_64); err == nil {
		t.Error("an incomplete image is in the manifest cache")
	}
	if unlock, err := cache.Lock(image.Exclusive); err != nil {
		t.Errorf("the cache is still locked: %v", err)
	} else {
		_ = unlock()
	}

	var asked string
	f.spoil = func(w http.ResponseWriter, r *http.Request, path string) bool {
		if path == "blobs/"+digest.FromBytes(a).String() {
			asked = r.Header.Get("Range")
		}
		return false
	}
	mustPull(t, f.request(t, cache), a)
	if asked != "bytes=60000-" {
		t.Errorf("the second run asked for %q", asked)
	}
}

func TestCancel(t *testing.T) {
	f := newFake(t)
	a := layerOf("a", 1000)
	f.push("latest", "amd64", a)
	ctx, cancel := context.WithCancel(context.Background())
	f.spoil = func(w http.ResponseWriter, r *http.Request, path string) bool {
		cancel()
		<-r.Context().Done()
		return true
	}
	if _, err := Pull(ctx, f.request(t, newCache(t))); !errors.Is(err, context.Canceled) || errors.As(err, new(*Error)) {
		t.Errorf("cancelled Pull: %v", err)
	}
}

func TestTwoPullsFetchOnce(t *testing.T) {
	f := newFake(t)
	dirs := host.Dirs{Cache: t.TempDir()}
	a := layerOf("a", 50_000)
	f.push("latest", "amd64", a)
	blob := "blobs/" + digest.FromBytes(a).String()
	f.spoil = func(w http.ResponseWriter, r *http.Request, path string) bool {
		if path == blob {
			time.Sleep(50 * time.Millisecond)
		}
		return false
	}
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			cache := image.OpenCache(dirs)
			got, _, err := pullAll(f.request(t, cache))
			if err != nil || string(got[0]) != string(a) {
				t.Errorf("%v", err)
			}
		})
	}
	both.Wait()
	if n := f.count("GET " + blob); n != 1 {
		t.Errorf("the layer was fetched %d times", n)
	}
}

func TestManyLayersInParallel(t *testing.T) {
	f := newFake(t)
	var layers [][]byte
	for i := range 12 {
		layers = append(layers, layerOf(string(rune('a'+i)), 5000))
	}
	f.push("latest", "amd64", layers...)
	var mu sync.Mutex
	now, most := 0, 0
	f.spoil = func(w http.ResponseWriter, r *http.Request, path string) bool {
		if !strings.HasPrefix(path, "blobs/") {
			return false
		}
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		time.Sleep(20 * time.Millisecond)
		mu.Lock()
		now--
		mu.Unlock()
		return false
	}
	mustPull(t, f.request(t, newCache(t)), layers...)
	if most < 2 || most > parallel {
		t.Errorf("%d downloads at a time", most)
	}
}

func TestBadCredentialsValue(t *testing.T) {
	req := newFake(t).request(t, newCache(t))
	req.Auth.UserPass = "justatoken"
	_, err := Pull(context.Background(), req)
	if !errors.Is(err, errNoColon) || strings.Contains(err.Error(), "justatoken") {
		t.Errorf("%v", err)
	}
}
