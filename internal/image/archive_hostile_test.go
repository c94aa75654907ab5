package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/host"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/report"
)

func TestFromArchiveBrokenLayouts(t *testing.T) {
	layer := layerTar(t, "x")
	l := &layout{t: t}
	image := l.image("amd64", layer)
	whole := l.members
	swap := func(name, data string) []member {
		var changed []member
		for _, m := range whole {
			if !strings.HasSuffix(m.name, name) {
				changed = append(changed, m)
			} else if data != "" {
				changed = append(changed, member{name: m.name, data: data})
			}
		}
		return changed
	}
	manifestFile, layerFile := image.Digest.Encoded(), digest.FromString(layer).Encoded()
	lied := image
	lied.Size++
	escaping := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: "sha256:../../../etc/passwd", Size: 1}
	sha512 := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.Digest("sha512:" + strings.Repeat("0", 128)), Size: 1}

	for name, tt := range map[string]struct {
		members []member
		root    v1.Descriptor
		want    string
	}{
		"no manifest":       {swap(manifestFile, ""), image, "is missing: the archive is incomplete"},
		"no layer":          {swap(layerFile, ""), image, "is missing: the archive is incomplete"},
		"damaged manifest":  {swap(manifestFile, "{}"), image, "manifest is damaged: it should be sha256:"},
		"damaged layer":     {swap(layerFile, strings.Replace(layer, "x", "y", 1)), image, "layer is damaged: it should be sha256:"},
		"short layer":       {swap(layerFile, layer[:100]), image, "100 bytes instead of"},
		"size of manifest":  {whole, lied, "bytes instead of"},
		"digest as a path":  {whole, escaping, "bad digest"},
		"unknown algorithm": {whole, sha512, "bad digest"},
	} {
		cache, dirs := newCache(t)
		data := (&layout{t: t, members: tt.members}).tar(tt.root)
		_, err := FromArchive(t.Context(), writeFile(t, data), platform.X86_64, cache, report.Discard)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error is %v, want %q", name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than one sentence: %v", name, err)
		}
		if left, err := os.ReadDir(dirs.Layers()); len(left) != 0 {
			t.Errorf("%s: %v left in the cache, %v", name, left, err)
		}
	}
}

func TestFromArchiveTruncated(t *testing.T) {
	l := &layout{t: t}
	data := l.tar(l.image("amd64", layerTar(t, strings.Repeat("x", 5000))))
	for _, size := range []int{600, 5000, len(data) - 2000} {
		_, err := fromBytes(t, data[:size], platform.X86_64)
		if err == nil || !strings.Contains(err.Error(), "truncated") {
			t.Errorf("cut at %d: %v", size, err)
		}
	}
	damaged := bytes.Clone(data)
	copy(damaged[bytes.LastIndex(damaged, []byte("oci-layout")):], "evil")
	if _, err := fromBytes(t, damaged, platform.X86_64); err == nil || !strings.Contains(err.Error(), "the tar archive is corrupt") {
		t.Errorf("damaged header: %v", err)
	}
}

func TestFromArchiveHugeFiles(t *testing.T) {
	huge := strings.Repeat(" ", oci.MaxManifestSize+1)
	for name, tt := range map[string]struct {
		members []member
		want    string
	}{
		"index.json":    {[]member{{name: "oci-layout", data: `{"imageLayoutVersion":"1.0.0"}`}, {name: "index.json", data: huge}}, `"index.json" is larger than 4 MiB`},
		"manifest.json": {[]member{{name: "manifest.json", data: huge}}, `"manifest.json" is larger than 4 MiB`},
		"oci-layout":    {[]member{{name: "oci-layout", data: huge}}, `"oci-layout" is larger than 1 MiB`},
		"version":       {[]member{{name: "oci-layout", data: `{"imageLayoutVersion":"2.0.0"}`}}, `OCI image layout has version "2.0.0"`},
		"no index":      {[]member{{name: "oci-layout", data: `{"imageLayoutVersion":"1.0.0"}`}}, `"index.json" is missing`},
		"not JSON":      {[]member{{name: "oci-layout", data: `1.0`}}, `"oci-layout" is not valid JSON`},
	} {
		_, err := fromBytes(t, tarOf(t, tt.members...), platform.X86_64)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error is %v, want %q", name, err, tt.want)
		}
	}
}

func TestFromArchiveTooManyFiles(t *testing.T) {
	members := []member{{name: "manifest.json"}}
	for i := range maxEntries {
		members = append(members, member{name: "f" + digest.FromBytes([]byte{byte(i), byte(i >> 8)}).Encoded()})
	}
	if _, err := fromBytes(t, tarOf(t, members...), platform.X86_64); err == nil || !strings.Contains(err.Error(), "more than 20000 files") {
		t.Errorf("error is %v", err)
	}
}

// A chain of indexes ends at a bound, and what is listed many times is read once.
func TestFromArchiveNestedIndexes(t *testing.T) {
	l := &layout{t: t}
	image := l.image("amd64", layerTar(t, "x"))
	d := l.index(image)
	for range 3 {
		d = l.index(d, d, d)
	}
	if _, err := fromBytes(t, l.tar(d), platform.X86_64); err != nil {
		t.Errorf("three levels: %v", err)
	}
	for range maxIndexDepth {
		d = l.index(d)
	}
	if _, err := fromBytes(t, l.tar(d), platform.X86_64); err == nil || !strings.Contains(err.Error(), "nested more than 8 deep") {
		t.Errorf("deep: %v", err)
	}
	var wide []v1.Descriptor
	for i := range maxIndexes + 1 {
		wide = append(wide, l.index(named(image, strings.Repeat("x", i))))
	}
	if _, err := fromBytes(t, l.tar(wide...), platform.X86_64); err == nil || !strings.Contains(err.Error(), "more than 20 image indexes") {
		t.Errorf("wide: %v", err)
	}
	liar := image
	liar.MediaType = v1.MediaTypeImageIndex
	if _, err := fromBytes(t, l.tar(liar), platform.X86_64); err == nil || !strings.Contains(err.Error(), "is listed as an index but is not one") {
		t.Errorf("a manifest for an index: %v", err)
	}
}

// Signatures and the like lie beside the image, and do not hide it.
func TestFromArchiveOtherArtifacts(t *testing.T) {
	l := &layout{t: t}
	layer := layerTar(t, "x")
	image := l.image("amd64", layer)
	artifact := v1.Manifest{MediaType: v1.MediaTypeImageManifest, Config: l.blob("application/vnd.example+json", "{}")}
	artifact.SchemaVersion = 2
	signature := l.blob(v1.MediaTypeImageManifest, jsonOf(t, artifact))
	other := l.blob("application/vnd.example.thing", "thing")
	img, err := fromBytes(t, l.tar(signature, other, image), platform.X86_64)
	if err != nil {
		t.Fatal(err)
	}
	checkImage(t, img, "image.tar", layer)
	if _, err := fromBytes(t, l.tar(signature), platform.X86_64); err == nil || !strings.Contains(err.Error(), "not a container image") {
		t.Errorf("only a signature: %v", err)
	}
}

// A directory's links stay in it.
func TestFromArchiveDirectoryLinksOutside(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret.json")
	if err := os.WriteFile(secret, []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(secret, filepath.Join(dir, "oci-layout")); err != nil {
		t.Fatal(err)
	}
	cache, _ := newCache(t)
	_, err := FromArchive(t.Context(), dir, platform.X86_64, cache, report.Discard)
	if err == nil || !strings.Contains(err.Error(), "a directory without an OCI image layout") {
		t.Errorf("error is %v", err)
	}
}

// FuzzFromArchive changes documents of an archive, whose blobs are stored under the
// digests that they then have, and whole archives.
func FuzzFromArchive(f *testing.F) {
	layer := layerTar(f, "x")
	l := &layout{t: f}
	image := named(l.image("amd64", layer), "x:1")
	config, manifest := l.members[0].data, l.members[2].data
	index := jsonOf(f, indexOf(image))
	docker := jsonOf(f, []dockerImage{{Config: "c.json", RepoTags: []string{"a:1"}, Layers: []string{"l.tar"}}})
	f.Add([]byte(index), []byte(manifest), []byte(config), []byte(docker))
	f.Add([]byte(docker), []byte(index), []byte(manifest), []byte(index))
	f.Add(l.tar(image), []byte(nil), []byte(nil), []byte(nil))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"%i","size":1}]}`), []byte(manifest), []byte("{}"), []byte("[{}]"))

	f.Fuzz(func(t *testing.T, index, manifest, config, docker []byte) {
		blob := func(data []byte) member {
			return member{name: "blobs/sha256/" + digest.FromBytes(data).Encoded(), data: string(data)}
		}
		members := []member{blob(index), blob(manifest), blob(config), blob([]byte(layer)),
			{name: "c.json", data: string(config)}, {name: "l.tar", data: layer}, {name: "manifest.json", data: string(docker)}}
		asLayout := append(members[:len(members):len(members)],
			member{name: "oci-layout", data: `{"imageLayoutVersion":"1.0.0"}`}, member{name: "index.json", data: string(index)})
		cache := OpenCache(host.Dirs{Cache: filepath.Join(t.TempDir(), "cache")})
		for _, data := range [][]byte{index, tarOf(t, members...), tarOf(t, asLayout...)} {
			img, err := FromArchive(t.Context(), writeFile(t, data), platform.X86_64, cache, report.Discard)
			var onPath *fs.PathError
			if errors.As(err, &onPath) {
				t.Errorf("the archive reached a path: %v", err)
			}
			if err != nil {
				continue
			}
			contents(t, img)
			if encoded, err := img.Record.Encode(); err != nil || !json.Valid(encoded) {
				t.Errorf("record: %v", err)
			}
		}
	})
}
