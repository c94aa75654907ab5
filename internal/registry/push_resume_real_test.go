package registry_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"proot-distro/internal/host"
	"proot-distro/internal/image"
	"proot-distro/internal/platform"
	"proot-distro/internal/registry"
)

const bigLayer = 24 << 20

// pullBig gives a cache with an image of a single large layer, and its name.
func pullBig(t *testing.T) (cache *image.Cache, src string) {
	t.Helper()
	addr := serve(t, false)
	img, err := random.Image(bigLayer, 1)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.OS, config.Architecture = "linux", "amd64"
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	put(t, addr, "big", func(ref name.Reference) error {
		return remote.Write(ref, mutate.MediaType(img, types.DockerManifestSchema2))
	})
	src = addr + "/team/app:big"
	pulled := request(t, src, platform.X86_64, host.Dirs{Cache: t.TempDir()})
	if _, err := pull(pulled); err != nil {
		t.Fatal(err)
	}
	return pulled.Cache, src
}

// TestRealBrokenUpload: connections break, and Docker's registry loses what it got.
func TestRealBrokenUpload(t *testing.T) {
	cache, src := pullBig(t)
	to := serve(t, false)
	req, w := tagged(t, cache, src, to+"/broken", platform.X86_64)
	w.breakAt, w.breaks = 5<<20, 3
	if _, err := registry.Push(context.Background(), req); err != nil {
		t.Fatalf("%v after %q", err, w.lines)
	}
	if w.breaks != 0 {
		t.Error("nothing was broken")
	}
	if got := rawManifest(t, to+"/broken"); !bytes.Equal(got, rawManifest(t, src)) {
		t.Error("the manifest differs")
	}
	if _, err := pull(request(t, to+"/broken", platform.X86_64, host.Dirs{Cache: t.TempDir()})); err != nil {
		t.Error(err)
	}
}

// thin is a slow line that counts what PATCH requests send.
type thin struct {
	sent atomic.Int64
	stop func(sent int64) error // whether the line breaks now
}

const thinSpeed = 12 << 20 // bytes a second

func (l *thin) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method == http.MethodPatch {
		req = req.Clone(req.Context())
		req.Body = &thinBody{req.Body, l}
	}
	return plainTransport.RoundTrip(req)
}

type thinBody struct {
	io.ReadCloser
	line *thin
}

func (b *thinBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), 32<<10)])
	time.Sleep(time.Duration(n) * time.Second / thinSpeed)
	if stop := b.line.stop(b.line.sent.Add(int64(n))); stop != nil {
		return 0, stop
	}
	return n, err
}

// TestRealPushAgain: the user has enough in the middle of a layer. The next push sends the rest.
func TestRealPushAgain(t *testing.T) {
	cache, src := pullBig(t)
	to := serve(t, false)
	req, _ := tagged(t, cache, src, to+"/again", platform.X86_64)
	ctx, cancel := context.WithCancelCause(context.Background())
	enough := errors.New("enough")
	line := &thin{stop: func(sent int64) error {
		if sent > bigLayer/8 {
			cancel(enough)
		}
		return nil
	}}
	req.Transport = line
	if _, err := registry.Push(ctx, req); !errors.Is(err, enough) {
		t.Fatalf("error %v", err)
	}
	first := line.sent.Load()
	if _, err := registry.Push(context.Background(), req); err != nil {
		t.Fatal(err)
	}
	if first == 0 || first >= bigLayer || line.sent.Load() > bigLayer+1<<20 {
		t.Errorf("%d bytes were sent by the first push, %d by both", first, line.sent.Load())
	}
	if _, err := pull(request(t, to+"/again", platform.X86_64, host.Dirs{Cache: t.TempDir()})); err != nil {
		t.Error(err)
	}
}

// TestRealProxyThatCollects: nginx, as it comes, hands a request on when it has all of it. Docker's registry behind
// it does not notice that the line breaks, and keeps what came before.
func TestRealProxyThatCollects(t *testing.T) {
	cache, src := pullBig(t)
	to := serve(t, false)
	forward := httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: to})
		r.Out.Host = r.In.Host // so that locations name the proxy
	}}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		forward.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	req, _ := tagged(t, cache, src, proxy.Listener.Addr().String()+"/collected", platform.X86_64)
	broken := false
	line := &thin{}
	line.stop = func(sent int64) error {
		if broken || sent < bigLayer*3/4 {
			return nil
		}
		broken = true
		return errors.New("the cable was pulled")
	}
	req.Transport = line
	if _, err := registry.Push(context.Background(), req); err != nil {
		t.Fatal(err)
	}
	if sent := line.sent.Load(); !broken || sent > bigLayer*3/2 {
		t.Errorf("%d bytes were sent of %d", sent, bigLayer)
	}
	if _, err := pull(request(t, to+"/collected", platform.X86_64, host.Dirs{Cache: t.TempDir()})); err != nil {
		t.Error(err)
	}
}
