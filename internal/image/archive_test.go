package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/compression"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/report"
)

// A member is a file of an archive made for a test; with link it is a symbolic link.
type member struct{ name, data, link string }

func tarOf(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Mode: 0o644, Size: int64(len(m.data)), Typeflag: tar.TypeReg}
		if m.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, m.link
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func writeFile(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func jsonOf(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// run runs a program that the test cannot do without.
func run(t testing.TB, argv ...string) {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("this test needs a working %s: %s: %v\n%s", argv[0], strings.Join(argv, " "), err, out)
	}
}

// layerTar is a layer with one file.
func layerTar(t testing.TB, content string) string {
	return string(tarOf(t, member{name: "etc/file", data: content}))
}

func configOf(t testing.TB, arch string, layers ...string) string {
	config := v1.Image{Platform: v1.Platform{Architecture: arch, OS: "linux"}, RootFS: v1.RootFS{Type: "layers"}}
	for _, layer := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromString(layer))
	}
	return jsonOf(t, config)
}

// layout makes an OCI image layout.
type layout struct {
	t       testing.TB
	members []member
}

func (l *layout) blob(mediaType, data string) v1.Descriptor {
	d := descriptorOf(data)
	d.MediaType = mediaType
	l.members = append(l.members, member{name: "blobs/sha256/" + d.Digest.Encoded(), data: data})
	return d
}

func (l *layout) image(arch string, layers ...string) v1.Descriptor {
	m := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest}
	m.Config = l.blob(v1.MediaTypeImageConfig, configOf(l.t, arch, layers...))
	for _, layer := range layers {
		m.Layers = append(m.Layers, l.blob(v1.MediaTypeImageLayer, layer))
	}
	return l.blob(v1.MediaTypeImageManifest, jsonOf(l.t, m))
}

func (l *layout) index(manifests ...v1.Descriptor) v1.Descriptor {
	return l.blob(v1.MediaTypeImageIndex, jsonOf(l.t, indexOf(manifests...)))
}

func indexOf(manifests ...v1.Descriptor) v1.Index {
	return v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: manifests}
}

// tar ends with the files that tell what the archive is, as Docker's do.
func (l *layout) tar(root ...v1.Descriptor) []byte {
	return tarOf(l.t, append(l.members,
		member{name: "index.json", data: jsonOf(l.t, indexOf(root...))},
		member{name: "oci-layout", data: `{"imageLayoutVersion":"1.0.0"}`})...)
}

func named(d v1.Descriptor, name string) v1.Descriptor {
	d.Annotations = map[string]string{v1.AnnotationRefName: name}
	return d
}

func on(d v1.Descriptor, os, arch, variant string) v1.Descriptor {
	d.Platform = &v1.Platform{OS: os, Architecture: arch, Variant: variant}
	return d
}

// contents are the layers of an image, read and verified, decompressed.
func contents(t testing.TB, img *Image) []string {
	t.Helper()
	var all []string
	for _, blob := range img.Layers {
		r, err := blob.Open()
		if err != nil {
			t.Fatal(err)
		}
		z, err := compression.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		z.Close()
		r.Close()
		all = append(all, string(data))
	}
	return all
}

func fromBytes(t *testing.T, data []byte, arch platform.Arch) (*Image, error) {
	t.Helper()
	cache, _ := newCache(t)
	return FromArchive(context.Background(), writeFile(t, data), arch, cache, report.Discard)
}

// checkImage wants layers and a record that survives being written and read.
func checkImage(t *testing.T, img *Image, imageRef string, layers ...string) {
	t.Helper()
	if diff := cmp.Diff(layers, contents(t, img)); diff != "" {
		t.Errorf("layers:\n%s", diff)
	}
	if img.Record.ImageRef != imageRef {
		t.Errorf("image is called %q, want %q", img.Record.ImageRef, imageRef)
	}
	d, err := img.Record.ConfigDescriptor()
	if err != nil || d.Digest != digest.FromBytes(img.Record.Config) {
		t.Errorf("config is %s, %v", d.Digest, err)
	}
	data, err := img.Record.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := oci.ParseRecord(data); err != nil || !bytes.Equal(again.Manifest, bytes.TrimSpace(img.Record.Manifest)) {
		t.Errorf("the record does not survive: %v", err)
	}
}

func TestFromArchiveLayout(t *testing.T) {
	one, two := layerTar(t, "one"), layerTar(t, "two")
	l := &layout{t: t}
	data := l.tar(named(l.image("amd64", one, two, one), "app:1"))
	img, err := fromBytes(t, data, platform.X86_64)
	if err != nil {
		t.Fatal(err)
	}
	checkImage(t, img, "app:1", one, two, one)
	if img.Record.Arch != platform.X86_64 {
		t.Errorf("architecture is %q", img.Record.Arch)
	}
	if err := img.Close(); err != nil {
		t.Error(err)
	}
}

func TestFromArchiveChoosesPlatform(t *testing.T) {
	l := &layout{t: t}
	one, two, three := layerTar(t, "amd64"), layerTar(t, "arm64"), layerTar(t, "arm")
	amd64, arm64, arm := l.image("amd64", one), l.image("arm64", two), l.image("arm", three)
	attestation := on(l.image("amd64", "not a layer"), "unknown", "unknown", "")
	elsewhere := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.FromString("?"), Size: 5}
	missing := on(elsewhere, "linux", "riscv64", "")
	nested := l.index(on(amd64, "linux", "amd64", ""), on(arm64, "linux", "arm64", "v8"), attestation, missing)
	v6 := on(l.image("arm", layerTar(t, "armv6")), "linux", "arm", "v6")

	for name, tt := range map[string]struct {
		root    []v1.Descriptor
		arch    platform.Arch
		want    string
		wantErr string
	}{
		"nested":             {[]v1.Descriptor{named(nested, "x")}, platform.AArch64, two, ""},
		"nested twice":       {[]v1.Descriptor{l.index(nested)}, platform.X86_64, one, ""},
		"two names of one":   {[]v1.Descriptor{named(nested, "x"), named(nested, "y")}, platform.X86_64, one, ""},
		"flat":               {[]v1.Descriptor{on(amd64, "linux", "amd64", ""), on(arm, "linux", "arm", "v7"), v6}, platform.ARM, three, ""},
		"flat, untold":       {[]v1.Descriptor{amd64, arm64}, platform.AArch64, two, ""},
		"images by name":     {[]v1.Descriptor{named(amd64, "x"), named(arm64, "y")}, platform.AArch64, two, ""},
		"not there":          {[]v1.Descriptor{nested}, platform.ARM, "", "only for linux/amd64, linux/arm64/v8, linux/riscv64"},
		"there, not stored":  {[]v1.Descriptor{nested}, platform.RISCV64, "", "is missing: the archive is incomplete"},
		"two names":          {[]v1.Descriptor{named(amd64, "x"), named(l.image("amd64", two), "y")}, platform.X86_64, "", `2 images for x86_64 in the archive ("x", "y")`},
		"two without a name": {[]v1.Descriptor{amd64, l.image("amd64", two)}, platform.X86_64, "", "2 images for x86_64 in the archive:"},
		"none":               {nil, platform.X86_64, "", "no image in the archive"},
		"only attestations":  {[]v1.Descriptor{attestation}, platform.X86_64, "", "no image in the archive"},
		"wrong claim":        {[]v1.Descriptor{on(arm64, "linux", "amd64", "")}, platform.X86_64, "", "does not exist for x86_64, only for linux/arm64"},
	} {
		t.Run(name, func(t *testing.T) {
			img, err := fromBytes(t, l.tar(tt.root...), tt.arch)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("error is %v, want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{tt.want}, contents(t, img)); diff != "" {
				t.Error(diff)
			}
		})
	}
	var no *oci.NoPlatformError
	if _, err := fromBytes(t, l.tar(nested), platform.I686); !errors.As(err, &no) {
		t.Errorf("error is %v", err)
	}
}

func TestFromArchiveNames(t *testing.T) {
	l := &layout{t: t}
	image := l.image("amd64", layerTar(t, "x"))
	for _, tt := range []struct {
		annotations map[string]string
		want        string
	}{
		{nil, "image.tar"},
		{map[string]string{v1.AnnotationRefName: "alpine:3"}, "alpine:3"},
		{map[string]string{v1.AnnotationRefName: "3", containerdName: "docker.io/library/alpine:3"}, "alpine:3"},
		{map[string]string{containerdName: "ghcr.io/foo/bar:3"}, "ghcr.io/foo/bar:3"},
		{map[string]string{v1.AnnotationRefName: "a\x1b[31m"}, "image.tar"},
		{map[string]string{v1.AnnotationRefName: strings.Repeat("a", 5000)}, "image.tar"},
	} {
		d := image
		d.Annotations = tt.annotations
		img, err := fromBytes(t, l.tar(d), platform.X86_64)
		if err != nil {
			t.Errorf("%v: %v", tt.annotations, err)
		} else if img.Record.ImageRef != tt.want {
			t.Errorf("%v: called %q", tt.annotations, img.Record.ImageRef)
		}
	}
}

func TestFromArchiveDirectory(t *testing.T) {
	layer := layerTar(t, "x")
	l := &layout{t: t}
	data := l.tar(named(l.image("arm64", layer), "x:1"))
	dir := t.TempDir()
	cache, _ := newCache(t)
	if _, err := FromArchive(t.Context(), dir, platform.AArch64, cache, report.Discard); err == nil || errors.Is(err, ErrNotImage) {
		t.Errorf("an empty directory: %v", err)
	}
	run(t, "tar", "-xf", writeFile(t, data), "-C", dir)
	img, err := FromArchive(t.Context(), dir, platform.AArch64, cache, report.Discard)
	if err != nil {
		t.Fatal(err)
	}
	checkImage(t, img, "x:1", layer)
}

func TestFromArchiveCompressed(t *testing.T) {
	layer := layerTar(t, strings.Repeat("x", 3<<20))
	l := &layout{t: t}
	plain := writeFile(t, l.tar(named(l.image("arm64", layer), "x:1")))
	for _, tool := range [][]string{{"gzip"}, {"bzip2"}, {"xz"}, {"xz", "--format=lzma"}, {"zstd", "-q"}} {
		out, err := exec.Command(tool[0], append(tool[1:], "-c", plain)...).Output()
		if err != nil {
			t.Fatalf("this test needs a working %s: %v", tool[0], err)
		}
		cache, dirs := newCache(t)
		img, err := FromArchive(t.Context(), writeFile(t, out), platform.AArch64, cache, report.Discard)
		if err != nil {
			t.Fatalf("%v: %v", tool, err)
		}
		checkImage(t, img, "x:1", layer)
		if left, err := os.ReadDir(dirs.Layers()); err != nil || len(left) != 1 {
			t.Errorf("%v: %v in the cache, %v", tool, left, err)
		}
		if _, err = fromBytes(t, out[:len(out)-30], platform.AArch64); err == nil || !strings.Contains(err.Error(), "truncated") {
			t.Errorf("%v, truncated: %v", tool, err)
		}
	}
}

func TestFromArchiveUsesTheCache(t *testing.T) {
	cache, dirs := newCache(t)
	layer := layerTar(t, "x")
	put(t, cache, layer)
	before, err := os.Stat(blobPath(dirs, descriptorOf(layer)))
	if err != nil {
		t.Fatal(err)
	}
	l := &layout{t: t}
	image := l.image("amd64", layer)
	l.members = l.members[:0:0] // without the blobs of the image
	whole := &layout{t: t}
	whole.image("amd64", layer)
	for _, m := range whole.members {
		if m.data != layer {
			l.members = append(l.members, m)
		}
	}
	img, err := FromArchive(t.Context(), writeFile(t, l.tar(image)), platform.X86_64, cache, report.Discard)
	if err != nil {
		t.Fatal(err)
	}
	checkImage(t, img, "image.tar", layer)
	if after, err := os.Stat(blobPath(dirs, descriptorOf(layer))); err != nil || !os.SameFile(before, after) {
		t.Errorf("the cached layer was replaced: %v", err)
	}
}

func TestFromArchiveNotImage(t *testing.T) {
	many := []member{{name: "bin/sh"}}
	for i := range 600 {
		many = append(many, member{name: fmt.Sprintf("usr/lib/%d", i)})
	}
	late := append(many[:len(many):len(many)], member{name: "oci-layout", data: `{"imageLayoutVersion":"1.0.0"}`})
	for name, data := range map[string][]byte{
		"rootfs":                 tarOf(t, member{name: "bin/sh"}, member{name: "etc/passwd"}),
		"large rootfs":           tarOf(t, many...),
		"named late":             tarOf(t, late...),
		"another manifest.json":  tarOf(t, member{name: "manifest.json", data: `{"version":1}`}, member{name: "bin/sh"}),
		"another list":           tarOf(t, member{name: "manifest.json", data: `[{"a":1}]`}, member{name: "bin/sh"}),
		"manifest.json is empty": tarOf(t, member{name: "manifest.json"}),
		"layout in a folder":     tarOf(t, member{name: "x/oci-layout"}, member{name: "x/index.json"}),
		"layout outside":         tarOf(t, member{name: "../oci-layout"}, member{name: "../index.json"}),
		"text":                   []byte("hello"),
		"empty":                  nil,
	} {
		if _, err := fromBytes(t, data, platform.X86_64); !errors.Is(err, ErrNotImage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cache, dirs := newCache(t)
	if _, err := FromArchive(t.Context(), writeFile(t, tarOf(t, many...)), platform.X86_64, cache, report.Discard); !errors.Is(err, ErrNotImage) {
		t.Error(err)
	}
	if _, err := os.Stat(dirs.Cache); !os.IsNotExist(err) {
		t.Errorf("looking at a rootfs made a cache: %v", err)
	}
}

// An archive may say last what it is, after more files than are looked at otherwise.
func TestFromArchiveManyFiles(t *testing.T) {
	l := &layout{t: t}
	layers := []string{}
	for i := range 40 {
		layers = append(layers, layerTar(t, fmt.Sprint(i)))
	}
	image := l.image("amd64", layers...)
	for i := range 600 {
		l.blob("", fmt.Sprint("filler", i))
	}
	img, err := fromBytes(t, l.tar(image), platform.X86_64)
	if err != nil {
		t.Fatal(err)
	}
	checkImage(t, img, "image.tar", layers...)
}

func TestFromArchiveUnusablePath(t *testing.T) {
	cache, _ := newCache(t)
	fifo := filepath.Join(t.TempDir(), "fifo")
	run(t, "mkfifo", fifo)
	for path, want := range map[string]string{
		filepath.Join(t.TempDir(), "absent.tar"): "no such file or directory",
		fifo:                                     "not a regular file",
		"/dev/zero":                              "not a regular file",
	} {
		_, err := FromArchive(t.Context(), path, platform.X86_64, cache, report.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestFromArchiveInterrupted(t *testing.T) {
	l := &layout{t: t}
	data := l.tar(l.image("amd64", layerTar(t, strings.Repeat("x", 1<<20))))
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("aborted by user")
	cancel(why)
	cache, dirs := newCache(t)
	if _, err := FromArchive(ctx, writeFile(t, data), platform.X86_64, cache, report.Discard); !errors.Is(err, why) {
		t.Errorf("error is %v", err)
	}
	if left, _ := os.ReadDir(dirs.Layers()); len(left) != 0 {
		t.Errorf("%v left in the cache", left)
	}
}
