package registry

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
)

// several pushes an image as BuildKit makes them: for platforms of ours and others, with an
// attestation. It gives the index.
func several(f *fake) []byte {
	entries := []v1.Descriptor{}
	for _, p := range []v1.Platform{
		{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64", Variant: "v8"},
		{OS: "linux", Architecture: "arm", Variant: "v5"}, {OS: "linux", Architecture: "s390x"},
	} {
		d := f.push("", p.Architecture, layerOf(p.Architecture, 3000), layerOf("shared", 500))
		d.Platform = &p
		entries = append(entries, d)
	}
	note := []byte(`{"predicateType": "https://slsa.dev/provenance/v1"}`)
	config := []byte(`{"architecture":"unknown","os":"unknown"}`)
	f.blobs[digest.FromBytes(note).String()], f.blobs[digest.FromBytes(config).String()] = note, config
	attestation := f.putManifest("", toJSON(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: describe(v1.MediaTypeImageConfig, config),
		Layers: []v1.Descriptor{describe("application/vnd.in-toto+json", note)},
	}))
	attestation.Platform = &v1.Platform{OS: "unknown", Architecture: "unknown"}
	attestation.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	index := toJSON(v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex,
		Manifests: append(entries, attestation), Annotations: map[string]string{"org.example": "<kept>"},
	})
	f.putManifest("latest", index)
	return index
}

// TestMirror: with all platforms an image arrives elsewhere byte for byte.
func TestMirror(t *testing.T) {
	f, s, cache := newFake(t), newSink(t), newCache(t)
	index := several(f)
	req := f.request(t, cache)
	done, err := Download(context.Background(), req, true)
	if err != nil {
		t.Fatal(err)
	}
	want := Downloaded{digest.FromBytes(index), []string{"x86_64", "aarch64", "linux/arm/v5", "linux/s390x"}}
	if diff := cmp.Diff(want, done); diff != "" {
		t.Error(diff)
	}
	x, err := cache.LookupIndex(req.Ref)
	if err != nil || len(x.Missing()) != 0 {
		t.Fatalf("%v, %v", x, err)
	}
	push := s.request(t, cache, x.Records()...)
	push.Index = x.Data
	if done := mustSend(t, push); done.Digest != digest.FromBytes(index) {
		t.Errorf("%+v", done)
	}
	s.has(t, "manifests/latest", index)
	for _, e := range x.Entries {
		s.has(t, "manifests/"+e.Digest.String(), f.manifests[e.Digest.String()])
	}
	for d, data := range f.blobs {
		s.has(t, "blobs/"+d, data)
	}

	// Nothing is fetched twice, and installing needs no network.
	f.log()
	if _, err := Download(context.Background(), req, true); err != nil {
		t.Fatal(err)
	}
	if n := f.count("GET blobs/"); n != 0 {
		t.Errorf("%d blobs were fetched again", n)
	}
	req.Transport = forbidden{t}
	mustPull(t, req, layerOf("amd64", 3000), layerOf("shared", 500))
	req.Arch = platform.AArch64
	mustPull(t, req, layerOf("arm64", 3000), layerOf("shared", 500))
}

// TestPullKeepsTheIndex: what was pulled for some platforms is known to be a part of more.
func TestPullKeepsTheIndex(t *testing.T) {
	f, cache := newFake(t), newCache(t)
	index := several(f)
	req := f.request(t, cache)
	for _, arch := range []platform.Arch{platform.X86_64, platform.AArch64} {
		req.Arch = arch
		if done, err := Download(context.Background(), req, false); err != nil || len(done.Platforms) != 1 {
			t.Fatalf("%+v, %v", done, err)
		}
	}
	x, err := cache.LookupIndex(req.Ref)
	if err != nil || string(x.Data) != string(index) {
		t.Fatalf("%v, %v", x, err)
	}
	if diff := cmp.Diff([]string{"linux/arm/v5", "linux/s390x"}, x.Missing()); diff != "" {
		t.Error(diff)
	}
	if n := f.count("GET blobs/" + digest.FromBytes(layerOf("s390x", 3000)).String()); n != 0 {
		t.Error("a platform was fetched that nobody asked for")
	}

	// The name moves on for one of them only.
	moved := f.push("", "amd64", layerOf("moved", 100))
	moved.Platform = &v1.Platform{OS: "linux", Architecture: "amd64"}
	f.pushIndex("latest", moved)
	req.Arch = platform.X86_64
	if done, err := Download(context.Background(), req, false); err != nil || done.Digest != moved.Digest {
		t.Fatalf("%+v, %v", done, err)
	}
	if _, err := cache.LookupIndex(req.Ref); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an index that lacks a cached image counts: %v", err)
	}
	if done, err := Download(context.Background(), req, true); err != nil || len(done.Platforms) != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
	if _, err := cache.Lookup(req.Ref, platform.AArch64); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the image has an architecture that it lost: %v", err)
	}
}

func TestDownloadOfASingleImage(t *testing.T) {
	f, cache := newFake(t), newCache(t)
	d := f.push("latest", "arm64", layerOf("a", 1000))
	req := f.request(t, cache)
	done, err := Download(context.Background(), req, true)
	if diff := cmp.Diff(Downloaded{d.Digest, []string{"aarch64"}}, done); err != nil || diff != "" {
		t.Fatal(err, diff)
	}
	if _, err := Download(context.Background(), req, false); kindOf(err) != NoPlatform {
		t.Errorf("error %v", err)
	}
	f.push("latest", "s390x", layerOf("a", 1000))
	if _, err := Download(context.Background(), req, true); kindOf(err) != NoPlatform {
		t.Errorf("error %v", err)
	}
}

func TestDownloadFailures(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(f *fake)
		kind  Kind
		text  string
	}{
		"a blob is missing": {func(f *fake) {
			delete(f.blobs, digest.FromBytes(layerOf("s390x", 3000)).String())
		}, NotFound, "lacks a part"},
		"a blob is damaged": {func(f *fake) {
			f.blobs[digest.FromBytes(layerOf("s390x", 3000)).String()][7] ^= 1
		}, BadDigest, "is damaged"},
		"no such tag":    {func(f *fake) { delete(f.manifests, "latest") }, NotFound, "has no"},
		"a nested index": {func(f *fake) { f.pushIndex("latest", f.putManifest("", f.manifests["latest"])) }, Unsupported, "index within"},
		"not an index":   {func(f *fake) { f.putManifest("latest", []byte(`[]`)) }, Unsupported, "read manifest"},
		"a wrong size": {func(f *fake) {
			d := f.push("", "amd64", layerOf("a", 10))
			d.Size++
			f.pushIndex("latest", d)
		}, Protocol, "in its image index"},
		"schema 1 inside": {func(f *fake) { f.pushIndex("latest", f.putManifest("", []byte(`{"schemaVersion":1}`))) }, Unsupported, "schema 1"},
	} {
		t.Run(name, func(t *testing.T) {
			f, cache := newFake(t), newCache(t)
			several(f)
			tt.spoil(f)
			_, err := Download(context.Background(), f.request(t, cache), true)
			if e := new(Error); !errors.As(err, &e) || e.Kind != tt.kind || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %v", err)
			}
			if records, err := cache.List(); err != nil || len(records) != 0 {
				t.Errorf("%d images are cached, %v", len(records), err)
			}
		})
	}
}

// TestContentsAreBounded: what a mirror fetches is a stranger's as well.
func TestContentsAreBounded(t *testing.T) {
	layer := `{"digest":"` + digest.FromString("x").String() + `","size":1}`
	for name, manifest := range map[string]string{
		"many layers": `{"config":` + layer + `,"layers":[` + strings.TrimSuffix(strings.Repeat(layer+",", 1001), ",") + `]}`,
		"huge config": `{"config":{"digest":"` + digest.FromString("x").String() + `","size":99999999}}`,
		"no config":   `{}`,
		"bad digest":  `{"config":` + layer + `,"layers":[{"digest":"sha256:../../x","size":1}]}`,
	} {
		if _, _, err := oci.Contents([]byte(manifest)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
