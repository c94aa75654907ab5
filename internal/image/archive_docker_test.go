package image

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"proot-distro/internal/platform"
	"proot-distro/internal/report"
)

func gzipped(t *testing.T, data string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(data)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var (
	idA = strings.Repeat("a", 64)
	idB = strings.Repeat("b", 64)
	idC = strings.Repeat("c", 64)
)

func TestFromArchiveDocker(t *testing.T) {
	one, two := layerTar(t, "one"), layerTar(t, "two")
	config := configOf(t, "arm64", one, two, one)
	manifest := func(images ...dockerImage) member { return member{name: "manifest.json", data: jsonOf(t, images)} }
	blob := func(data string) string { return "blobs/sha256/" + digest.FromString(data).Encoded() }

	for name, members := range map[string][]member{
		"before Docker 25": {
			{name: idA + "/VERSION", data: "1.0"}, {name: idA + "/json", data: "{}"}, {name: idA + "/layer.tar", data: one},
			{name: idB + "/layer.tar", data: two},
			{name: idC + "/layer.tar", link: "../" + idA + "/layer.tar"},
			{name: "config.json", data: config},
			manifest(dockerImage{Config: "config.json", RepoTags: []string{"app:1", "app:2"},
				Layers: []string{idA + "/layer.tar", idB + "/layer.tar", idC + "/layer.tar"}}),
			{name: "repositories", data: "{}"},
		},
		"since Docker 25": {
			{name: blob(one), data: one}, {name: blob(two), data: two}, {name: blob(config), data: config},
			manifest(dockerImage{Config: blob(config), RepoTags: []string{"app:1"}, Layers: []string{blob(one), blob(two), blob(one)}}),
		},
		"compressed layers": {
			manifest(dockerImage{Config: "sha256:1", RepoTags: []string{"docker.io/library/app:1"}, Layers: []string{"1.tar.gz", "2.tar.gz", "1.tar.gz"}}),
			{name: "sha256:1", data: config}, {name: "1.tar.gz", data: gzipped(t, one)}, {name: "2.tar.gz", data: gzipped(t, two)},
		},
		"no diff IDs": {
			manifest(dockerImage{Config: "./c.json", RepoTags: []string{"app:1"}, Layers: []string{"./1.tar", "2.tar", "1.tar"}}),
			{name: "./c.json", data: `{"architecture":"arm64","os":"linux"}`}, {name: "./1.tar", data: one}, {name: "2.tar", data: two},
		},
		"several architectures": {
			manifest(dockerImage{Config: "x.json", RepoTags: []string{"other:1"}, Layers: nil},
				dockerImage{Config: "c.json", RepoTags: []string{"app:1"}, Layers: []string{"1.tar", "2.tar", "1.tar"}}),
			{name: "c.json", data: config}, {name: "1.tar", data: one}, {name: "2.tar", data: two},
			{name: "x.json", data: configOf(t, "amd64")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			img, err := fromBytes(t, tarOf(t, members...), platform.AArch64)
			if err != nil {
				t.Fatal(err)
			}
			checkImage(t, img, "app:1", one, two, one)
			img, err = fromBytes(t, []byte(gzipped(t, string(tarOf(t, members...)))), platform.AArch64)
			if err != nil {
				t.Fatal(err)
			}
			checkImage(t, img, "app:1", one, two, one)
		})
	}
}

// Where docker save writes both, the layout's layers, which may be compressed, count.
func TestFromArchivePrefersTheLayout(t *testing.T) {
	layer := layerTar(t, "layout")
	l := &layout{t: t}
	image := named(l.image("amd64", layer), "layout:1")
	l.members = append(l.members,
		member{name: "manifest.json", data: jsonOf(t, []dockerImage{{Config: "c.json", RepoTags: []string{"docker:1"}, Layers: []string{"1.tar"}}})},
		member{name: "c.json", data: configOf(t, "amd64", "other")}, member{name: "1.tar", data: "other"})
	img, err := fromBytes(t, l.tar(image), platform.X86_64)
	if err != nil {
		t.Fatal(err)
	}
	checkImage(t, img, "layout:1", layer)
}

func TestFromArchiveDockerErrors(t *testing.T) {
	layer := layerTar(t, "x")
	config := configOf(t, "amd64", layer)
	image := dockerImage{Config: "c.json", RepoTags: []string{"a:1"}, Layers: []string{"l.tar"}}
	other := dockerImage{Config: "d.json", RepoTags: []string{"b:1"}, Layers: []string{"l.tar"}}
	manifest := func(images ...dockerImage) member { return member{name: "manifest.json", data: jsonOf(t, images)} }
	for name, tt := range map[string]struct {
		members []member
		want    string
	}{
		"no config":      {[]member{manifest(image), {name: "l.tar", data: layer}}, `"c.json" is missing: the archive is incomplete`},
		"no layer":       {[]member{manifest(image), {name: "c.json", data: config}}, `"l.tar" is missing: the archive is incomplete`},
		"bad config":     {[]member{manifest(image), {name: "c.json", data: "{"}}, `"c.json": read image config: unexpected end of JSON input`},
		"damaged layer":  {[]member{manifest(image), {name: "c.json", data: config}, {name: "l.tar", data: layer + "x"}}, "layer is damaged"},
		"xz layer":       {[]member{manifest(image), {name: "c.json", data: config}, {name: "l.tar", data: "\xfd7zXZ\x00"}}, "compressed with xz, which images cannot have"},
		"wrong platform": {[]member{manifest(image), {name: "c.json", data: configOf(t, "s390x")}}, "does not exist for x86_64, only for linux/s390x"},
		"layer count":    {[]member{manifest(image), {name: "c.json", data: configOf(t, "amd64", layer, layer)}}, "image has 1 layers but its config lists 2"},
		"circular links": {[]member{manifest(image), {name: "c.json", data: config}, {name: "l.tar", link: "m.tar"}, {name: "m.tar", link: "l.tar"}}, `"l.tar" is missing`},
		"link outside":   {[]member{manifest(image), {name: "c.json", data: config}, {name: "l.tar", link: "../../../etc/passwd"}}, `"l.tar" is missing`},
		"path outside":   {[]member{manifest(dockerImage{Config: "../../etc/passwd"})}, `"../../etc/passwd" is missing`},
		"absolute path":  {[]member{manifest(dockerImage{Config: "/etc/passwd"})}, `"/etc/passwd" is missing`},
		"bad diff ID": {[]member{manifest(image), {name: "l.tar", data: layer},
			{name: "c.json", data: `{"architecture":"amd64","os":"linux","rootfs":{"diff_ids":["../../x"]}}`}}, "bad digest"},
		"two images": {[]member{manifest(image, other), {name: "c.json", data: config}, {name: "d.json", data: config + " "}, {name: "l.tar", data: layer}},
			`there are 2 images for x86_64 in the archive ("a:1", "b:1")`},
	} {
		_, err := fromBytes(t, tarOf(t, tt.members...), platform.X86_64)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error is %v, want %q", name, err, tt.want)
		}
	}
}

// TestFromArchiveRealTools reads what umoci and skopeo write.
func TestFromArchiveRealTools(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	ref := in("layout") + ":first"
	run(t, "umoci", "init", "--layout", in("layout"))
	run(t, "umoci", "new", "--image", ref)
	for _, name := range []string{"one", "two"} {
		if err := os.WriteFile(in(name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
		run(t, "umoci", "insert", "--rootless", "--image", ref, in(name), "/etc/"+name)
	}
	run(t, "umoci", "config", "--image", ref, "--architecture", "arm64", "--os", "linux", "--config.cmd", "/bin/sh")
	skopeo := func(to string) {
		run(t, "skopeo", "--insecure-policy", "--override-arch", "arm64", "--override-os", "linux", "copy", "-q", "oci:"+ref, to)
	}
	skopeo("oci-archive:" + in("oci.tar") + ":app:1")
	skopeo("docker-archive:" + in("docker.tar") + ":app:1")
	run(t, "tar", "-czf", in("umoci.tgz"), "-C", in("layout"), ".")

	for file, name := range map[string]string{"oci.tar": "app:1", "docker.tar": "app:1", "umoci.tgz": "first", "layout": "first"} {
		cache, _ := newCache(t)
		img, err := FromArchive(t.Context(), in(file), platform.AArch64, cache, report.Discard)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		layers := contents(t, img)
		checkImage(t, img, name, layers...)
		if len(layers) != 2 || !strings.Contains(layers[0], "etc/one") || !strings.Contains(layers[1], "etc/two") {
			t.Errorf("%s: %d layers, or wrong ones", file, len(layers))
		}
		config, err := img.Record.Image()
		if err != nil || len(config.Config.Cmd) != 1 || config.Architecture != "arm64" {
			t.Errorf("%s: config %+v, %v", file, config, err)
		}
		for i, diffID := range config.RootFS.DiffIDs {
			if diffID != digest.FromString(layers[i]) {
				t.Errorf("%s: layer %d is not the one of the config", file, i)
			}
		}
	}
}
