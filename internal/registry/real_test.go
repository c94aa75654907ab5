package registry_test

import (
	"context"
	"errors"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	gcr "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"proot-distro/internal/host"
	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/registry"
	"proot-distro/internal/report"
	"proot-distro/test/fixtures"
)

// serve starts a real registry.
func serve(t *testing.T, auth bool) (addr string) {
	t.Helper()
	if _, err := exec.LookPath("docker-registry"); err != nil {
		t.Fatal("docker-registry is not installed: run `make tools`")
	}
	r, err := fixtures.Serve(t.TempDir(), fixtures.RegistryOptions{Auth: auth, Writable: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r.Addr
}

// platformImage makes a random image with Docker's or OCI's media types.
func platformImage(t *testing.T, architecture string, layers int64, oci bool) gcr.Image {
	t.Helper()
	img, err := random.Image(200_000, layers, random.WithSource(rand.NewSource(int64(len(architecture)))))
	if err != nil {
		t.Fatal(err)
	}
	if oci {
		img = mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", architecture
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

// put pushes to team/app:tag.
func put(t *testing.T, addr, tag string, write func(name.Reference) error) {
	t.Helper()
	ref, err := name.ParseReference(addr + "/team/app:" + tag)
	if err == nil {
		err = write(ref)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// push makes team/app:single (arm64, Docker) and team/app:multi (amd64 and arm64, OCI).
func push(t *testing.T, addr string) {
	t.Helper()
	put(t, addr, "single", func(ref name.Reference) error {
		return remote.Write(ref, platformImage(t, "arm64", 2, false))
	})
	index := gcr.ImageIndex(empty.Index)
	for _, arch := range []string{"amd64", "arm64"} {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        platformImage(t, arch, 3, true),
			Descriptor: gcr.Descriptor{Platform: &gcr.Platform{OS: "linux", Architecture: arch}},
		})
	}
	put(t, addr, "multi", func(ref name.Reference) error { return remote.WriteIndex(ref, index) })
}

func request(t *testing.T, typed string, arch platform.Arch, dirs host.Dirs) registry.Request {
	t.Helper()
	ref, err := oci.ParseRef(typed)
	if err != nil {
		t.Fatal(err)
	}
	cache := image.OpenCache(dirs)
	return registry.Request{Ref: ref, Typed: typed, Arch: arch, Cache: cache, Report: report.Discard}
}

// pull reads all layers, which verifies them.
func pull(req registry.Request) (img *image.Image, err error) {
	img, err = registry.Pull(context.Background(), req)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	for _, l := range img.Layers {
		r, err := l.Open()
		if err != nil {
			return nil, err
		}
		defer r.Close()
		if n, err := io.Copy(io.Discard, r); err != nil || n != l.Descriptor().Size {
			return nil, errors.Join(err, errors.New("short layer"))
		}
	}
	return img, nil
}

func TestRealRegistry(t *testing.T) {
	addr := serve(t, false)
	push(t, addr)
	for _, tt := range []struct {
		tag    string
		arch   platform.Arch
		layers int
	}{{"single", platform.AArch64, 2}, {"multi", platform.X86_64, 3}, {"multi", platform.AArch64, 3}} {
		dirs := host.Dirs{Cache: t.TempDir()}
		req := request(t, addr+"/team/app:"+tt.tag, tt.arch, dirs)
		img, err := pull(req)
		if err != nil {
			t.Fatal(err)
		}
		if len(img.Layers) != tt.layers {
			t.Errorf("%s has %d layers", tt.tag, len(img.Layers))
		}

		// Half of the first layer is left of an earlier run.
		first := filepath.Join(dirs.Layers(), "sha256_"+img.Layers[0].Descriptor().Digest.Encoded())
		err = errors.Join(os.Truncate(first, img.Layers[0].Descriptor().Size/2), os.Rename(first, first+".part"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pull(req); err != nil {
			t.Fatal(err)
		}

		// What Pull keeps can be found by its digest too.
		desc, err := img.Record.ConfigDescriptor()
		if err != nil || !req.Cache.Has(desc) {
			t.Errorf("the config is not kept as a blob: %v", err)
		}
	}

	for _, tt := range []struct {
		typed   string
		arch    platform.Arch
		kind    registry.Kind
		missing registry.Missing
	}{
		{addr + "/team/app:nosuch", platform.X86_64, registry.NotFound, registry.MissingTag},
		{addr + "/nosuch", platform.X86_64, registry.NotFound, registry.MissingRepository},
		{addr + "/team/app:multi", platform.ARM, registry.NoPlatform, 0},
		{addr + "/team/app:single", platform.X86_64, registry.NoPlatform, 0},
	} {
		_, err := pull(request(t, tt.typed, tt.arch, host.Dirs{Cache: t.TempDir()}))
		if e := new(registry.Error); !errors.As(err, &e) || e.Kind != tt.kind || e.Missing != tt.missing {
			t.Errorf("%s: %v", tt.typed, err)
		} else if e.Missing == registry.MissingTag && strings.Join(e.Tags, " ") != "multi single" {
			t.Errorf("tags %q", e.Tags)
		}
	}
}

func TestRealRegistryWithPasswords(t *testing.T) {
	addr := serve(t, true)
	put(t, addr, "latest", func(ref name.Reference) error {
		return remote.Write(ref, platformImage(t, "amd64", 1, false),
			remote.WithAuth(&authn.Basic{Username: fixtures.User, Password: fixtures.Password}))
	})
	req := request(t, addr+"/team/app", platform.X86_64, host.Dirs{Cache: t.TempDir()})
	for _, userPass := range []string{"", fixtures.User + ":wrong", "nobody:" + fixtures.Password} {
		req.Auth.UserPass = userPass
		_, err := pull(req)
		if e := new(registry.Error); !errors.As(err, &e) || e.Kind != registry.Unauthorized || e.Credentials != (userPass != "") {
			t.Errorf("%q: %v", userPass, err)
		}
	}
	req.Auth.UserPass = fixtures.User + ":" + fixtures.Password
	if _, err := pull(req); err != nil {
		t.Error(err)
	}
}
