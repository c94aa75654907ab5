package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/platform"
)

const config = `{"architecture":"amd64","os":"linux","config":{"Env":["A=<b>&\u00e9"],"Cmd":["/bin/sh"]},"rootfs":{"type":"layers","diff_ids":[]}}`

func manifestOf(config string) string {
	return fmt.Sprintf(`{
  "schemaVersion": 2,
  "_ct": "application/vnd.oci.image.manifest.v1+json",
  "config": {"mediaType": %q, "digest": %q, "size": %d},
  "layers": [ {"mediaType": %q, "digest": %q, "size": 3, "annotations": {"a": "<&>"}} ]
}`, v1.MediaTypeImageConfig, digest.FromString(config), len(config), v1.MediaTypeImageLayerGzip, sum)
}

func TestRecordRoundTrip(t *testing.T) {
	r := &Record{
		ImageRef: "ubuntu:24.04", Arch: platform.X86_64, Repo: "library/ubuntu",
		Manifest: json.RawMessage(manifestOf(config)), Config: json.RawMessage(config),
		Extra: map[string]json.RawMessage{"future": json.RawMessage(`[1, 2]`)},
	}
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, r.Manifest) || !bytes.Contains(data, r.Config) {
		t.Errorf("original bytes are lost in %s", data)
	}
	if !bytes.HasPrefix(data, []byte(`{"image_ref": "ubuntu:24.04", "arch": "x86_64", "manifest": {`)) {
		t.Errorf("wrong beginning: %.100s", data)
	}
	back, err := ParseRecord(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, back); diff != "" {
		t.Error(diff)
	}
}

// TestPythonRecord reads what json.dump writes: reformatted, "_ct" in the manifest.
func TestPythonRecord(t *testing.T) {
	for _, indent := range []string{"", "  "} {
		var spaced bytes.Buffer
		if err := json.Indent(&spaced, []byte(config), "", indent); err != nil {
			t.Fatal(err)
		}
		data := fmt.Sprintf(`{"image_ref": "debian", "arch": "aarch64", "manifest": %s, "image_config": %s}`,
			manifestOf(config), spaced.String())
		r, err := ParseRecord([]byte(data))
		if err != nil {
			t.Fatal(err)
		}
		if string(r.Config) != config {
			t.Errorf("config bytes are not restored: %s", r.Config)
		}
		layers, err := r.Layers()
		if err != nil || len(layers) != 1 || layers[0].Size != 3 {
			t.Errorf("Layers = %v, %v", layers, err)
		}
		img, err := r.Image()
		if err != nil || img.Architecture != "amd64" || img.Config.Env[0] != "A=<b>&é" {
			t.Errorf("Image = %+v, %v", img, err)
		}
		d, err := r.ConfigDescriptor()
		if err != nil || d.Digest != digest.FromString(config) {
			t.Errorf("ConfigDescriptor = %v, %v", d, err)
		}
	}
}

func TestParseRecordErrors(t *testing.T) {
	record := func(manifest string) string {
		return fmt.Sprintf(`{"image_ref":"a","arch":"arm","manifest":%s,"image_config":{}}`, manifest)
	}
	layer := func(field, value string) string {
		m := manifestOf(config)
		switch field {
		case "digest":
			return strings.Replace(m, sum, value, 1)
		case "type":
			return strings.Replace(m, v1.MediaTypeImageLayerGzip, value, 1)
		}
		return strings.Replace(m, `"size": 3`, value, 1)
	}
	many := strings.Replace(manifestOf(config), "[ {", "[ "+strings.Repeat(`{"digest":"`+sum+`","size":1},`, maxLayers)+"{", 1)
	tests := []struct{ in, want string }{
		{``, "read image record"},
		{`[]`, "read image record"},
		{`{}`, "no manifest"},
		{"{\"manifest\":{\"a\":\"\xff\"}}", "UTF-8"},
		{`{"image_ref":7,"manifest":{}}`, "image_ref is not text"},
		{`{"arch":"vax","manifest":{}}`, "unknown architecture"},
		{record(`{}`), "bad digest"},
		{record(`{"schemaVersion":1,"fsLayers":[]}`), "schema 1"},
		{record(`{"schemaVersion":2,"mediaType":"` + v1.MediaTypeImageIndex + `","manifests":[]}`), "several platforms"},
		{record(layer("digest", "sha256:../../../etc/passwd")), "bad digest"},
		{record(layer("digest", "sha512:"+strings.Repeat("a", 128))), "bad digest"},
		{record(layer("size", `"size": -1`)), "bad size"},
		{record(layer("size", `"size": 1, "urls": ["https://a/b"]`)), "foreign layer"},
		{record(layer("type", "application/vnd.oci.image.layer.v1.tar+encrypted")), "not supported"},
		{record(strings.Replace(manifestOf(config), v1.MediaTypeImageConfig, "application/vnd.cncf.helm.config.v1+json", 1)), "not a container image"},
		{record(many), "more than 1000"},
		{strings.Replace(record(manifestOf(config)), `"image_config":{}`, `"image_config":[]`, 1), "not an object"},
		{strings.Repeat(" ", MaxRecordSize+1), "larger than 16 MiB"},
	}
	for _, tt := range tests {
		if _, err := ParseRecord([]byte(tt.in)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ParseRecord(%.80s) = %v, want an error with %q", tt.in, err, tt.want)
		}
	}
	if _, err := ParseRecord([]byte(record(`{"schemaVersion":1}`))); !errors.Is(err, errSchema1) {
		t.Errorf("schema 1 is not errSchema1: %v", err)
	}
}

func TestLayerTypes(t *testing.T) {
	for _, mediaType := range []string{
		v1.MediaTypeImageLayer, v1.MediaTypeImageLayerGzip, v1.MediaTypeImageLayerZstd, "",
		"application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.docker.image.rootfs.diff.tar", "application/vnd.docker.image.rootfs.diff.tar.zstd",
	} {
		if err := checkLayer(v1.Descriptor{MediaType: mediaType, Digest: digest.Digest(sum)}); err != nil {
			t.Errorf("%q: %v", mediaType, err)
		}
	}
}

func TestParseDocumentKind(t *testing.T) {
	manifest, index := manifestOf(config), `{"schemaVersion":2,"manifests":[{"digest":"`+sum+`","size":1}]}`
	for _, tt := range []struct {
		mediaType, data string
		index           bool
	}{
		{v1.MediaTypeImageManifest, manifest, false},
		{MediaTypeDockerManifest + "; charset=utf-8", manifest, false},
		{"application/json", manifest, false},
		{"", manifest, false},
		{"", index, true},
		{MediaTypeDockerList, index, true},
		// The document's own mediaType wins over a header that a proxy made up.
		{v1.MediaTypeImageManifest, strings.Replace(index, "{", `{"mediaType":"`+v1.MediaTypeImageIndex+`",`, 1), true},
	} {
		doc, err := ParseDocument(tt.mediaType, []byte(tt.data))
		if err != nil || (doc.Index != nil) != tt.index || (doc.Manifest != nil) == tt.index {
			t.Errorf("ParseDocument(%q, %.40s) = %+v, %v", tt.mediaType, tt.data, doc, err)
		}
	}
}

func TestSelect(t *testing.T) {
	entry := func(platform string) v1.Descriptor {
		d := v1.Descriptor{Digest: digest.FromString(platform), Size: 1, MediaType: v1.MediaTypeImageManifest}
		if platform != "" {
			p := strings.Split(platform+"/", "/")
			d.Platform = &v1.Platform{OS: p[0], Architecture: p[1], Variant: p[2]}
		}
		return d
	}
	tests := []struct {
		have string
		arch platform.Arch
		want string
	}{
		{"linux/amd64 linux/arm64/v8 linux/386", platform.AArch64, "linux/arm64/v8"},
		{"linux/amd64 linux/arm64/v8 linux/386", platform.I686, "linux/386"},
		{"linux/arm/v5 linux/arm/v6 linux/arm/v7", platform.ARM, "linux/arm/v7"},
		{"linux/arm/v5 linux/arm/v6 linux/arm64", platform.ARM, "linux/arm/v6"},
		{"linux/arm/v8 linux/arm/v6", platform.ARM, "linux/arm/v6"},
		{"linux/arm linux/arm/v6", platform.ARM, "linux/arm"},
		{"linux/amd64/v3 linux/amd64", platform.X86_64, "linux/amd64"},
		{"windows/amd64 linux/amd64", platform.X86_64, "linux/amd64"},
		{"unknown/unknown linux/riscv64", platform.RISCV64, "linux/riscv64"},
		{"linux/arm/v5", platform.ARM, "error: image does not exist for arm, only for linux/arm/v5"},
		{"windows/amd64 unknown/unknown", platform.X86_64, "error: image does not exist for x86_64, only for windows/amd64"},
		{"linux/amd64 linux/s390x", platform.AArch64, "error: image does not exist for aarch64, only for linux/amd64, linux/s390x"},
	}
	for _, tt := range tests {
		index := &v1.Index{}
		for _, p := range strings.Fields(tt.have) {
			index.Manifests = append(index.Manifests, entry(p))
		}
		got, err := Select(index, tt.arch)
		if want, wantErr := strings.CutPrefix(tt.want, "error: "); wantErr {
			if none := new(NoPlatformError); !errors.As(err, &none) || err.Error() != want {
				t.Errorf("%s for %s: %v, want %s", tt.have, tt.arch, err, want)
			}
		} else if err != nil || got.Digest != digest.FromString(tt.want) {
			t.Errorf("%s for %s: %v %v, want %s", tt.have, tt.arch, got.Platform, err, tt.want)
		}
	}
	lone := &v1.Index{Manifests: []v1.Descriptor{entry("")}}
	if got, err := Select(lone, platform.ARM); err != nil || got.Digest != digest.FromString("") {
		t.Errorf("an only entry without platform: %v, %v", got, err)
	}
}

func TestCheckPlatform(t *testing.T) {
	image := func(os, arch, variant string) *v1.Image {
		return &v1.Image{Platform: v1.Platform{OS: os, Architecture: arch, Variant: variant}}
	}
	for _, img := range []*v1.Image{image("linux", "arm64", "v8"), image("", "", ""), image("", "arm64", "")} {
		if err := CheckPlatform(img, platform.AArch64); err != nil {
			t.Error(err)
		}
	}
	for _, img := range []*v1.Image{image("linux", "amd64", ""), image("windows", "arm64", "")} {
		if err := CheckPlatform(img, platform.AArch64); err == nil {
			t.Errorf("%+v passes for aarch64", img.Platform)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"image_ref": "a", "arch": "arm", "manifest": ` + manifestOf(config) + `, "image_config": ` + config + `}`))
	f.Add([]byte(`{"image_ref":"a","x":null,"repo":"b","manifest":` + manifestOf("{}") + `,"image_config":{ }}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRecord(data)
		if err != nil {
			return
		}
		layers, err := r.Layers()
		if err != nil {
			t.Fatalf("Layers of an accepted record: %v", err)
		}
		for _, d := range layers {
			if hex := d.Digest.Encoded(); len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "" || d.Size < 0 {
				t.Fatalf("bad descriptor %+v", d)
			}
		}
		_, _ = r.Image()
		out, err := r.Encode()
		if err != nil {
			t.Fatalf("Encode of an accepted record: %v", err)
		}
		back, err := ParseRecord(out)
		if err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		if diff := cmp.Diff(r, back); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzParseDocument(f *testing.F) {
	f.Add("", []byte(manifestOf(config)))
	f.Add(v1.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[{"digest":"`+sum+`","size":1,"platform":{"os":"linux","architecture":"arm","variant":"v7"}}]}`))
	f.Add("application/vnd.docker.distribution.manifest.v1+prettyjws", []byte(`{"schemaVersion":1,"fsLayers":[]}`))
	f.Fuzz(func(t *testing.T, mediaType string, data []byte) {
		if config, layers, err := Contents(data); err == nil {
			for _, d := range append(layers, config) {
				if CheckDescriptor(d) != nil || len(d.URLs) > 0 && d.Digest != config.Digest {
					t.Fatalf("contents %+v", d)
				}
			}
		}
		doc, err := ParseDocument(mediaType, data)
		if err != nil {
			return
		}
		if (doc.Manifest == nil) == (doc.Index == nil) {
			t.Fatal("neither or both of manifest and index")
		}
		if doc.Index != nil {
			for _, arch := range platform.All() {
				if d, err := Select(doc.Index, arch); err == nil && CheckDescriptor(d) != nil {
					t.Fatalf("selected %+v", d)
				}
			}
		}
	})
}

// What is wrong with a document is said without the names of Go's types.
func TestWrongJSON(t *testing.T) {
	for data, want := range map[string]string{
		`[]`:                        "read manifest: it has a JSON array in the wrong place",
		`{"schemaVersion":"2"}`:     "read manifest: schemaVersion has a JSON string in the wrong place",
		`{"schemaVersion":2,"x":"`:  "read manifest: unexpected end of JSON input",
		"{\"schemaVersion\":\"\xff": "read manifest: not valid UTF-8",
	} {
		if _, err := ParseDocument("", []byte(data)); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", data, err, want)
		}
	}
}
