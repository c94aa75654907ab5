package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"proot-distro/internal/host"
	"proot-distro/internal/image"
	"proot-distro/internal/platform"
)

// onBlob makes a fake spoil the requests for one layer; call counts from 1.
func (f *fake) onBlob(layer []byte, spoil func(w http.ResponseWriter, r *http.Request, call int) bool) {
	calls := 0
	f.spoil = func(w http.ResponseWriter, r *http.Request, path string) bool {
		if r.Method != http.MethodGet || path != "blobs/"+digest.FromBytes(layer).String() {
			return false
		}
		f.mu.Lock()
		calls++
		call := calls
		f.mu.Unlock()
		return spoil(w, r, call)
	}
}

// cut sends the beginning of a layer and breaks the connection.
func cut(w http.ResponseWriter, layer []byte, from, to int) {
	w.Header().Set("Content-Length", fmt.Sprint(len(layer)-from))
	if from > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(layer)-1, len(layer)))
		w.WriteHeader(http.StatusPartialContent)
	}
	_, _ = w.Write(layer[from:to])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func TestBrokenTransfers(t *testing.T) {
	a := layerOf("a", 400_000)
	tests := map[string]func(w http.ResponseWriter, r *http.Request, call int) bool{
		"cut once": func(w http.ResponseWriter, r *http.Request, call int) bool {
			if call == 1 {
				cut(w, a, 0, 150_000)
			}
			if want := "bytes=150000-"; r.Header.Get("Range") != want {
				t.Errorf("Range is %q, want %q", r.Header.Get("Range"), want)
			}
			return false
		},
		"cut more often than there are tries, but always with progress": func(w http.ResponseWriter, r *http.Request, call int) bool {
			if call <= 10 {
				cut(w, a, (call-1)*20_000, call*20_000)
			}
			return false
		},
		"ends early and cleanly": func(w http.ResponseWriter, r *http.Request, call int) bool {
			if call == 1 {
				w.(http.Flusher).Flush() // chunked: no Content-Length
				_, _ = w.Write(a[:1000])
			}
			return call == 1
		},
		"Range ignored": func(w http.ResponseWriter, r *http.Request, call int) bool {
			if call == 1 {
				cut(w, a, 0, 150_000)
			}
			_, _ = w.Write(a)
			return true
		},
		"Range ignored, and other bytes before": func(w http.ResponseWriter, r *http.Request, call int) bool {
			if call == 1 {
				cut(w, layerOf("b", 400_000), 0, 150_000)
			}
			_, _ = w.Write(a)
			return true
		},
		"416": func(w http.ResponseWriter, r *http.Request, call int) bool {
			if call == 1 {
				cut(w, a, 0, 150_000)
			}
			if call == 2 {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			}
			return call == 2
		},
		"another range than asked for": func(w http.ResponseWriter, r *http.Request, call int) bool {
			if call == 1 {
				cut(w, a, 0, 150_000)
			}
			if call == 2 {
				cut(w, a, 100_000, 400_000)
			}
			return false
		},
		"503 twice": func(w http.ResponseWriter, r *http.Request, call int) bool {
			if call <= 2 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return call <= 2
		},
		"429 with a short wait": func(w http.ResponseWriter, r *http.Request, call int) bool {
			if call == 1 {
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(http.StatusTooManyRequests)
			}
			return call == 1
		},
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.push("latest", "amd64", a)
			f.onBlob(a, spoil)
			cache := newCache(t)
			// Read after the end, so that a fresh start does not hit a reader.
			img, err := Pull(context.Background(), f.request(t, cache))
			if err != nil {
				t.Fatal(err)
			}
			defer img.Close()
			for deadline := time.Now().Add(10 * time.Second); !cache.Has(img.Layers[0].Descriptor()); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the layer does not arrive")
				}
			}
			got, err := readBlob(img.Layers[0])
			if err != nil || string(got) != string(a) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

// TestReaderIsNotFooled: bytes that a reader took before they turned out wrong are
// never followed by a clean end.
func TestReaderIsNotFooled(t *testing.T) {
	a, b := layerOf("a", 100_000), layerOf("b", 100_000)
	f := newFake(t)
	f.push("latest", "amd64", a)
	read := make(chan struct{})
	f.onBlob(a, func(w http.ResponseWriter, r *http.Request, call int) bool {
		if call == 1 {
			w.Header().Set("Content-Length", "100000")
			_, _ = w.Write(b[:50_000])
			w.(http.Flusher).Flush()
			<-read
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(a)
		return true
	})
	img, err := Pull(context.Background(), f.request(t, newCache(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	r, err := img.Layers[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 10_000)); err != nil {
		t.Fatal(err)
	}
	close(read)
	if _, err := io.ReadAll(r); !errors.Is(err, errRestarted) {
		t.Errorf("the reader ended with %v", err)
	}
}

func TestFatalTransfers(t *testing.T) {
	a, evil := layerOf("a", 10_000), layerOf("evil", 10_000)
	always := func(f func(w http.ResponseWriter)) func(http.ResponseWriter, *http.Request, int) bool {
		return func(w http.ResponseWriter, _ *http.Request, _ int) bool { f(w); return true }
	}
	status := func(code int) func(http.ResponseWriter, *http.Request, int) bool {
		return always(func(w http.ResponseWriter) { w.WriteHeader(code) })
	}
	for name, tt := range map[string]struct {
		spoil func(http.ResponseWriter, *http.Request, int) bool
		kind  Kind
		text  string
	}{
		"other bytes":  {always(func(w http.ResponseWriter) { _, _ = w.Write(evil) }), BadDigest, "damaged"},
		"too long":     {always(func(w http.ResponseWriter) { _, _ = w.Write(append(a[:len(a):len(a)], 'x')) }), TooLarge, "longer than"},
		"far too long": {always(func(w http.ResponseWriter) { _, _ = io.CopyN(w, zeros{}, 1<<20) }), TooLarge, "longer than"},
		"too short":    {always(func(w http.ResponseWriter) { w.Header().Set("Content-Length", "0") }), Network, "failed"},
		"404":          {status(404), NotFound, "lacks a part"},
		"403":          {status(403), Forbidden, "denies access"},
		"500":          {status(500), Server, "out of order"},
		"302 nowhere":  {status(302), Protocol, "no sense"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.push("latest", "amd64", a)
			f.onBlob(a, tt.spoil)
			dirs := host.Dirs{Cache: t.TempDir()}
			cache := image.OpenCache(dirs)
			failKind(t, f.request(t, cache), tt.kind, tt.text)
			if _, err := os.Stat(filepath.Join(dirs.Layers(), "sha256_"+digest.FromBytes(a).Encoded())); err == nil {
				t.Error("the layer was promoted to the cache")
			}
			if _, err := cache.Lookup(f.ref(t), platform.X86_64); err == nil {
				t.Error("the image is in the manifest cache")
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestOneFailureEndsAll: the other layers stop, and their readers learn the cause.
func TestOneFailureEndsAll(t *testing.T) {
	f := newFake(t)
	a, b := layerOf("a", 10_000), layerOf("b", 10_000)
	f.push("latest", "amd64", a, b)
	f.spoil = func(w http.ResponseWriter, r *http.Request, path string) bool {
		switch path {
		case "blobs/" + digest.FromBytes(a).String():
			<-r.Context().Done() // would hang for ever
			return true
		case "blobs/" + digest.FromBytes(b).String():
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		return false
	}
	failKind(t, f.request(t, newCache(t)), Forbidden, "denies")
}

// TestStall: a body of which nothing comes any more is asked for again.
func TestStall(t *testing.T) {
	f := newFake(t)
	a := layerOf("a", 10_000)
	f.push("latest", "amd64", a)
	f.onBlob(a, func(w http.ResponseWriter, r *http.Request, call int) bool {
		if call > 1 {
			return false
		}
		w.Header().Set("Content-Length", "10000")
		_, _ = w.Write(a[:5000])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	})
	req := f.request(t, newCache(t))
	req.pace.stall = 100 * time.Millisecond
	mustPull(t, req, a)

	f.onBlob(layerOf("b", 1), func(http.ResponseWriter, *http.Request, int) bool { return false })
	f.push("latest", "amd64", layerOf("b", 1))
	f.onBlob(layerOf("b", 1), func(w http.ResponseWriter, r *http.Request, call int) bool {
		w.Header().Set("Content-Length", "1")
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	})
	req = f.request(t, newCache(t))
	req.pace.stall = 50 * time.Millisecond
	failKind(t, req, Timeout, "did not answer in time")
}

// TestDamagedPartialFile: the bytes of an earlier run are wrong; the layer is
// fetched anew in full.
func TestDamagedPartialFile(t *testing.T) {
	a := layerOf("a", 10_000)
	for name, left := range map[string][]byte{
		"shorter": layerOf("evil", 5000), "as long": layerOf("evil", 10_000), "longer": layerOf("evil", 20_000), "complete": a,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.push("latest", "amd64", a)
			dirs := host.Dirs{Cache: t.TempDir()}
			cache := image.OpenCache(dirs)
			if err := os.Mkdir(dirs.Layers(), 0o700); err != nil {
				t.Fatal(err)
			}
			part := filepath.Join(dirs.Layers(), "sha256_"+digest.FromBytes(a).Encoded()+".part")
			if err := os.WriteFile(part, left, 0o600); err != nil {
				t.Fatal(err)
			}
			img, err := Pull(context.Background(), f.request(t, cache))
			if err != nil {
				t.Fatal(err)
			}
			defer img.Close()
			for deadline := time.Now().Add(10 * time.Second); !cache.Has(img.Layers[0].Descriptor()); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the layer does not arrive")
				}
			}
			if got, err := readBlob(img.Layers[0]); err != nil || string(got) != string(a) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if _, err := os.Stat(part); err == nil {
				t.Error("the partial file is still there")
			}
			if name == "complete" && f.count("GET blobs/"+digest.FromBytes(a).String()) != 0 {
				t.Error("a complete partial file was fetched again")
			}
		})
	}
}

func TestHostilePartialFile(t *testing.T) {
	f := newFake(t)
	a := layerOf("a", 10)
	f.push("latest", "amd64", a)
	dirs := host.Dirs{Cache: t.TempDir()}
	cache := image.OpenCache(dirs)
	outside := filepath.Join(t.TempDir(), "outside")
	if err := errors.Join(os.Mkdir(dirs.Layers(), 0o700), os.WriteFile(outside, []byte("untouched"), 0o600)); err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(dirs.Layers(), "sha256_"+digest.FromBytes(a).Encoded()+".part")
	if err := os.Symlink(outside, part); err != nil {
		t.Fatal(err)
	}
	if _, _, err := pullAll(f.request(t, cache)); err == nil || !strings.Contains(err.Error(), "store blob") {
		t.Errorf("a link in the place of the partial file: %v", err)
	}
	if data, _ := os.ReadFile(outside); string(data) != "untouched" {
		t.Errorf("the file outside became %q", data)
	}
}
