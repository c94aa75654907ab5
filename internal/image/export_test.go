package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/report"
)

// built makes an image as a build does, from layers that are put into the cache.
func built(t testing.TB, c *Cache, arch platform.Arch, layers ...string) *Image {
	t.Helper()
	architecture, variant := arch.OCI()
	config := v1.Image{
		Platform: v1.Platform{Architecture: architecture, OS: "linux", Variant: variant},
		Config:   v1.ImageConfig{Cmd: []string{"/bin/sh", "-c", "echo <&>"}},
		RootFS:   v1.RootFS{Type: "layers"},
	}
	m := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest}
	img := &Image{}
	for _, layer := range layers {
		d, diffID := addLayer(t, c, []byte(layer))
		m.Layers = append(m.Layers, d)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
		img.Layers = append(img.Layers, c.Blob(d))
	}
	data := jsonOf(t, config)
	m.Config = v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: digest.FromString(data), Size: int64(len(data))}
	img.Record = &oci.Record{Arch: arch, Manifest: json.RawMessage(jsonOf(t, m)), Config: json.RawMessage(data)}
	return img
}

func exported(t testing.TB, exports ...Export) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := exportOCI(context.Background(), &b, exports); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// program runs a program and gives its output.
func program(t testing.TB, argv ...string) []byte {
	t.Helper()
	var problems bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, problems.Bytes())
	}
	return out
}

func TestExportContent(t *testing.T) {
	c, _ := newCache(t)
	base, top := layerTar(t, "base"), layerTar(t, "top")
	img := built(t, c, platform.X86_64, base, top, base)
	names := []oci.Ref{mustRef(t, "app:1"), mustRef(t, "ghcr.io/me/app"), mustRef(t, "x@"+string(digest.FromString("x")))}
	archive := exported(t, Export{Names: names, Images: []*Image{img}})
	if again := exported(t, Export{Names: names, Images: []*Image{img}}); !bytes.Equal(archive, again) {
		t.Error("the second archive differs")
	}
	files := map[string]string{}
	var order []string
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		hdr, err := r.Next()
		if err == io.EOF {
			break
		}
		data, readErr := io.ReadAll(r)
		if err != nil || readErr != nil {
			t.Fatal(err, readErr)
		}
		if hdr.ModTime.Unix() != 0 || hdr.Format != tar.FormatUSTAR || hdr.Uid != 0 || hdr.Uname != "" {
			t.Errorf("header %+v", hdr)
		}
		if hex, ok := strings.CutPrefix(hdr.Name, "blobs/sha256/"); ok && hex != "" && digest.FromBytes(data).Encoded() != hex {
			t.Errorf("%s has other bytes", hdr.Name)
		}
		files[hdr.Name] = string(data)
		order = append(order, hdr.Name)
	}
	if len(order) != len(files) || len(order) != 9 || !slices.Equal(order[:3], []string{"oci-layout", "index.json", "manifest.json"}) {
		t.Errorf("the archive has %q", order)
	}
	d := v1.Descriptor{
		MediaType: v1.MediaTypeImageManifest, Digest: digest.FromBytes(img.Record.Manifest), Size: int64(len(img.Record.Manifest)),
		Platform: &v1.Platform{Architecture: "amd64", OS: "linux"},
	}
	with := func(annotations map[string]string) v1.Descriptor { d := d; d.Annotations = annotations; return d }
	want := jsonOf(t, v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{
		with(map[string]string{"io.containerd.image.name": "docker.io/library/app:1", "org.opencontainers.image.ref.name": "1"}),
		with(map[string]string{"io.containerd.image.name": "ghcr.io/me/app:latest", "org.opencontainers.image.ref.name": "latest"}),
		with(map[string]string{"io.containerd.image.name": "docker.io/library/x@" + string(digest.FromString("x"))}),
	}})
	if diff := cmp.Diff(want, files["index.json"]); diff != "" {
		t.Error(diff)
	}
	layers, _ := img.Record.Layers()
	docker := []dockerEntry{{
		Config:   "blobs/sha256/" + digest.FromBytes(img.Record.Config).Encoded(),
		RepoTags: []string{"app:1", "ghcr.io/me/app:latest"},
	}}
	for _, l := range layers {
		docker[0].Layers = append(docker[0].Layers, "blobs/sha256/"+l.Digest.Encoded())
	}
	if diff := cmp.Diff(jsonOf(t, docker), files["manifest.json"]); diff != "" {
		t.Error(diff)
	}
}

// What we write, we read, for each platform.
func TestExportRoundTrip(t *testing.T) {
	c, _ := newCache(t)
	images := []*Image{built(t, c, platform.X86_64, layerTar(t, "amd")), built(t, c, platform.ARM, layerTar(t, "arm"), layerTar(t, "more"))}
	index, err := NewIndex(images)
	if err != nil {
		t.Fatal(err)
	}
	archive := exported(t, Export{Names: []oci.Ref{mustRef(t, "app:1")}, Images: images, Index: index})
	for i, want := range [][]string{{layerTar(t, "amd")}, {layerTar(t, "arm"), layerTar(t, "more")}} {
		img, err := fromBytes(t, archive, images[i].Record.Arch)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, contents(t, img)); diff != "" {
			t.Error(diff)
		}
		if !bytes.Equal(img.Record.Manifest, images[i].Record.Manifest) || img.Record.ImageRef != "app:1" {
			t.Errorf("got %s, %s", img.Record.ImageRef, img.Record.Manifest)
		}
	}
}

func TestExportFailures(t *testing.T) {
	c, dirs := newCache(t)
	img := built(t, c, platform.X86_64, layerTar(t, "x"))
	other := built(t, c, platform.ARM, layerTar(t, "x"))
	if err := exportOCI(context.Background(), io.Discard, []Export{{Images: []*Image{img, other}}}); err == nil {
		t.Error("two platforms without an index are accepted")
	}
	if err := exportOCI(context.Background(), io.Discard, []Export{{}}); err == nil {
		t.Error("no image is accepted")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := exportOCI(ctx, io.Discard, []Export{{Images: []*Image{img}}}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	dir := t.TempDir()
	export := func(name string, img *Image) error {
		return ExportFile(context.Background(), filepath.Join(dir, name), []Export{{Images: []*Image{img}}})
	}
	if err := export("x.zip", img); err == nil || !strings.Contains(err.Error(), ".tar.zst") {
		t.Errorf("a ZIP gives %v", err)
	}
	if err := export("missing/x.tar", img); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing directory gives %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x.tar.gz"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := img.Layers[0].Descriptor()
	if err := os.WriteFile(blobPath(dirs, d), make([]byte, d.Size), 0o600); err != nil {
		t.Fatal(err)
	}
	var damaged *DigestError
	if err := export("x.tar.gz", img); !errors.As(err, &damaged) {
		t.Errorf("a damaged layer gives %v", err)
	}
	if err := export("x.tar.gz", img); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing layer gives %v", err)
	}
	reformatted := &Image{Record: &oci.Record{Manifest: img.Record.Manifest, Config: json.RawMessage(string(img.Record.Config) + " ")}}
	if err := export("x.tar.gz", reformatted); !errors.As(err, &damaged) {
		t.Errorf("a reformatted config gives %v", err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "x.tar.gz")); string(data) != "old" || err != nil {
		t.Errorf("a failed export leaves %q, %v", data, err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("failed exports leave %v", entries)
	}
}

// Every compression gives a file that skopeo and umoci read.
func TestExportTools(t *testing.T) {
	c, _ := newCache(t)
	images := []*Image{built(t, c, platform.X86_64, layerTar(t, "amd"), layerTar(t, "top")), built(t, c, platform.AArch64, layerTar(t, "arm"))}
	index, err := NewIndex(images)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	names := []oci.Ref{mustRef(t, "ghcr.io/me/app:1.0")}
	for _, name := range []string{"one.tar", "one.tar.gz", "one.tar.xz", "one.tar.zst"} {
		file := filepath.Join(dir, name)
		if err := ExportFile(context.Background(), file, []Export{{Names: names, Images: images[:1]}}); err != nil {
			t.Fatal(err)
		}
		run(t, "chmod", "-v", "=r", file)
		sources := []string{"oci-archive:" + file, "oci-archive:" + file + ":1.0"}
		if name != "one.tar.gz" { // Debian 12's skopeo cannot read its own docker archives when they are gzipped
			sources = append(sources, "docker-archive:"+file, "docker-archive:"+file+":ghcr.io/me/app:1.0")
		}
		for _, source := range sources {
			var seen struct{ Layers []string }
			if err := json.Unmarshal(program(t, "skopeo", "inspect", source), &seen); err != nil || len(seen.Layers) != 2 {
				t.Errorf("%s: %v, %+v", source, err, seen)
			}
			target := filepath.Join(t.TempDir(), "layout")
			run(t, "skopeo", "copy", source, "oci:"+target+":copy")
			bundle := filepath.Join(t.TempDir(), "bundle")
			run(t, "umoci", "unpack", "--rootless", "--image", target+":copy", bundle)
			if data, err := os.ReadFile(filepath.Join(bundle, "rootfs/etc/file")); string(data) != "top" || err != nil {
				t.Errorf("%s: unpacked %q, %v", source, data, err)
			}
		}
		back, err := FromArchive(context.Background(), file, platform.X86_64, c, report.Discard)
		if err != nil || len(back.Layers) != 2 {
			t.Errorf("%s: read back: %v", name, err)
		}
	}
	both := filepath.Join(dir, "both.tar")
	if err := ExportFile(context.Background(), both, []Export{{Names: names, Images: images, Index: index}}); err != nil {
		t.Fatal(err)
	}
	for arch, layers := range map[string]int{"amd64": 2, "arm64": 1} {
		var seen struct {
			Layers       []string
			Architecture string
		}
		out := program(t, "skopeo", "inspect", "--override-arch", arch, "oci-archive:"+both)
		if err := json.Unmarshal(out, &seen); err != nil || len(seen.Layers) != layers || seen.Architecture != arch {
			t.Errorf("%s: %v, %+v", arch, err, seen)
		}
	}
	// umoci reads the layout itself.
	layout := filepath.Join(dir, "layout")
	run(t, "mkdir", layout)
	run(t, "tar", "-xf", filepath.Join(dir, "one.tar"), "-C", layout)
	run(t, "umoci", "unpack", "--rootless", "--image", layout+":1.0", filepath.Join(dir, "bundle"))
}

func TestExportFileTargets(t *testing.T) {
	c, _ := newCache(t)
	exports := []Export{{Images: []*Image{built(t, c, platform.X86_64, layerTar(t, "x"))}}}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "real.tar"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link.tar")
	if err := os.Symlink("real.tar", link); err != nil {
		t.Fatal(err)
	}
	if err := ExportFile(context.Background(), link, exports); err != nil {
		t.Fatal(err)
	}
	want := exported(t, exports...)
	if data, err := os.ReadFile(filepath.Join(dir, "real.tar")); !bytes.Equal(data, want) {
		t.Errorf("what the link leads to has %d bytes, %v", len(data), err)
	}
	if _, err := os.Readlink(link); err != nil {
		t.Errorf("the link is gone: %v", err)
	}
	fifo := filepath.Join(dir, "fifo.tar")
	run(t, "mkfifo", fifo)
	received := make(chan []byte)
	go func() {
		data, _ := os.ReadFile(fifo)
		received <- data
	}()
	if err := ExportFile(context.Background(), fifo, exports); err != nil {
		t.Fatal(err)
	}
	if data := <-received; !bytes.Equal(data, want) {
		t.Errorf("the FIFO got %d bytes", len(data))
	}
}
