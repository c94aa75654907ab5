package registry_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"

	"proot-distro/internal/host"
	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/registry"
	"proot-distro/test/fixtures"
)

// wire counts requests, and can break bodies off.
type wire struct {
	mu      sync.Mutex
	lines   []string
	breakAt int64 // bytes after which the bodies of PATCH requests break; 0: never
	breaks  int   // how often
}

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	w.mu.Lock()
	w.lines = append(w.lines, req.Method+" "+req.URL.Path)
	cut := req.Method == http.MethodPatch && w.breaks > 0
	if cut {
		w.breaks--
	}
	w.mu.Unlock()
	if cut {
		req = req.Clone(req.Context())
		req.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(io.LimitReader(req.Body, w.breakAt), broken{}), req.Body}
	}
	return plainTransport.RoundTrip(req)
}

var plainTransport = &http.Transport{DisableCompression: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the cable was pulled") }

// count returns how many requests since the last call had a method.
func (w *wire) count(method string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, line := range w.lines {
		if strings.HasPrefix(line, method+" ") {
			n++
		}
	}
	return n
}

func (w *wire) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = nil
}

// tagged gives a cached image another name and prepares its push.
func tagged(t *testing.T, cache *image.Cache, src, dst string, arch platform.Arch) (registry.PushRequest, *wire) {
	t.Helper()
	refs := [2]oci.Ref{}
	for i, typed := range []string{src, dst} {
		var err error
		if refs[i], err = oci.ParseRef(typed); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := cache.Tag(refs[0], refs[1], dst); err != nil {
		t.Fatal(err)
	}
	req := registry.PushRequest{Ref: refs[1], Cache: cache}
	w := &wire{}
	req.Transport = w
	rec, err := cache.Lookup(refs[1], arch)
	if err != nil {
		t.Fatal(err)
	}
	req.Records = []*oci.Record{rec}
	return req, w
}

func rawManifest(t *testing.T, typed string) []byte {
	t.Helper()
	ref, err := name.ParseReference(typed)
	if err != nil {
		t.Fatal(err)
	}
	got, err := remote.Get(ref)
	if err != nil {
		t.Fatal(err)
	}
	return got.Manifest
}

// TestRealMirror: what was pulled arrives elsewhere byte for byte.
func TestRealMirror(t *testing.T) {
	from, to := serve(t, false), serve(t, false)
	push(t, from)
	src := from + "/team/app:single"
	pulled := request(t, src, platform.AArch64, host.Dirs{Cache: t.TempDir()})
	if _, err := pull(pulled); err != nil {
		t.Fatal(err)
	}
	req, w := tagged(t, pulled.Cache, src, to+"/mirror/app:1", platform.AArch64)
	done, err := registry.Push(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	original := rawManifest(t, src)
	if got := rawManifest(t, to+"/mirror/app:1"); !bytes.Equal(got, original) || done.Digest != digest.FromBytes(original) {
		t.Errorf("the manifest differs:\n%s\n%s", got, original)
	}
	if done.Sent != 3 {
		t.Errorf("%+v", done)
	}
	if _, err := pull(request(t, to+"/mirror/app:1", platform.AArch64, host.Dirs{Cache: t.TempDir()})); err != nil {
		t.Error(err)
	}

	// Again: the manifest only.
	w.forget()
	if done, err := registry.Push(context.Background(), req); err != nil || done.Present != 3 || done.Sent != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	if w.count("POST")+w.count("PATCH") != 0 || w.count("PUT") != 1 {
		t.Errorf("requests %q", w.lines)
	}

	// Into another repository: nothing is sent.
	req, w = tagged(t, pulled.Cache, to+"/mirror/app:1", to+"/other:x", platform.AArch64)
	if done, err := registry.Push(context.Background(), req); err != nil || done.Mounted != 3 || done.Sent != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	if w.count("PATCH") != 0 || w.count("PUT") != 1 {
		t.Errorf("requests %q", w.lines)
	}
	if got := rawManifest(t, to+"/other:x"); !bytes.Equal(got, original) {
		t.Error("the manifest differs")
	}
}

func TestRealIndex(t *testing.T) {
	from, to := serve(t, false), serve(t, false)
	push(t, from)
	src := from + "/team/app:multi"
	dirs := host.Dirs{Cache: t.TempDir()}
	var images []*image.Image
	archs := []platform.Arch{platform.X86_64, platform.AArch64}
	for _, arch := range archs {
		img, err := pull(request(t, src, arch, dirs))
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, img)
	}
	pulled := request(t, src, platform.X86_64, dirs)
	index, err := image.NewIndex(images)
	if err != nil {
		t.Fatal(err)
	}
	if err := pulled.Cache.StoreIndex(pulled.Ref, index); err != nil {
		t.Fatal(err)
	}
	req, _ := tagged(t, pulled.Cache, src, to+"/multi", platform.X86_64)
	cached, err := pulled.Cache.LookupIndex(req.Ref)
	if err != nil {
		t.Fatal(err)
	}
	req.Index, req.Records = cached.Data, cached.Records()
	if _, err := registry.Push(context.Background(), req); err != nil {
		t.Fatal(err)
	}
	if got := rawManifest(t, to+"/multi"); !bytes.Equal(got, index) {
		t.Errorf("the index is %s", got)
	}
	for _, arch := range archs {
		if _, err := pull(request(t, to+"/multi", arch, host.Dirs{Cache: t.TempDir()})); err != nil {
			t.Error(err)
		}
	}
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Fatal("skopeo is not installed: run `make tools`")
	}
	out, err := exec.Command("skopeo", "--insecure-policy", "copy", "--all", "--src-tls-verify=false",
		"docker://"+to+"/multi", "dir:"+t.TempDir()).CombinedOutput()
	if err != nil {
		t.Errorf("skopeo: %v\n%s", err, out)
	}
}

func TestRealPushWithPasswords(t *testing.T) {
	from, to := serve(t, false), serve(t, true)
	push(t, from)
	src := from + "/team/app:single"
	pulled := request(t, src, platform.AArch64, host.Dirs{Cache: t.TempDir()})
	if _, err := pull(pulled); err != nil {
		t.Fatal(err)
	}
	req, _ := tagged(t, pulled.Cache, src, to+"/app", platform.AArch64)
	for userPass, want := range map[string]string{
		"":                      "needs credentials",
		fixtures.User + ":nope": "refused the credentials",
	} {
		req.Auth.UserPass = userPass
		_, err := registry.Push(context.Background(), req)
		if e := new(registry.Error); !errors.As(err, &e) || e.Kind != registry.Unauthorized || !e.Push ||
			e.Credentials != (userPass != "") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", userPass, err)
		}
	}
	req.Auth.UserPass = fixtures.User + ":" + fixtures.Password
	if _, err := registry.Push(context.Background(), req); err != nil {
		t.Error(err)
	}
}

// TestRealReadOnly: the registry of the fixtures takes nothing.
func TestRealReadOnly(t *testing.T) {
	from := serve(t, false)
	push(t, from)
	src := from + "/team/app:single"
	pulled := request(t, src, platform.AArch64, host.Dirs{Cache: t.TempDir()})
	if _, err := pull(pulled); err != nil {
		t.Fatal(err)
	}
	r, err := fixtures.Serve(t.TempDir(), fixtures.RegistryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	req, _ := tagged(t, pulled.Cache, src, r.Addr+"/app", platform.AArch64)
	_, err = registry.Push(context.Background(), req)
	if e := new(registry.Error); !errors.As(err, &e) || e.Kind != registry.ReadOnly ||
		err.Error() != fmt.Sprintf("%s accepts no pushes", r.Addr) {
		t.Errorf("error %v", err)
	}
}
