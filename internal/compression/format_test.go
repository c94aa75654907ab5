package compression

import (
	"archive/tar"
	"bytes"
	"testing"
)

func TestDetect(t *testing.T) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Name: "]file", Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	w.Close()
	lzmaLike := append([]byte{0x5d, 0, 0, 0x80, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0}, make([]byte, 498)...)
	lzmaLikeTar := bytes.Clone(lzmaLike)
	copy(lzmaLikeTar[257:], "ustar")

	for _, tt := range []struct {
		name string
		head []byte
		want Format
	}{
		{"nothing", nil, None},
		{"tar", archive.Bytes(), None},
		{"gzip", []byte("\x1f\x8b\x08"), Gzip},
		{"half of gzip's magic", []byte("\x1f"), None},
		{"bzip2", []byte("BZh91AY&SY"), Bzip2},
		{"empty bzip2", []byte("BZh9\x17\x72\x45\x38\x50\x90"), Bzip2},
		{"cut bzip2", []byte("BZh9"), Bzip2},
		{"a name like bzip2", []byte("BZh9-and-more"), None},
		{"a bzip2 of no level", []byte("BZh01AY&SY"), None},
		{"xz", []byte("\xfd7zXZ\x00"), XZ},
		{"zstd", []byte("\x28\xb5\x2f\xfd"), Zstd},
		{"skippable zstd frame", []byte("\x5a\x2a\x4d\x18"), Zstd},
		{"lzma", lzmaLike, LZMA},
		{"lzma-like tar", lzmaLikeTar, None},
		{"lzma of odd dictionary", append([]byte{0x5d, 0, 0, 0x81}, make([]byte, 20)...), None},
		{"lzma of no dictionary", append([]byte{0x5d}, make([]byte, 20)...), None},
		{"lzma of a huge size", []byte("\x5d\x00\x00\x80\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00"), None},
		{"lzma header only", lzmaLike[:13], None},
		{"text", []byte("hello"), None},
	} {
		if got := Detect(tt.head); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestDetectLZMADictionaries(t *testing.T) {
	for _, preset := range []string{"-0", "-1", "-3", "-5", "-6", "-9", "--lzma1=dict=4KiB", "--lzma1=dict=1536KiB"} {
		if got := Detect(tools[3].run(t, []byte("data"), preset)); got != LZMA {
			t.Errorf("xz --format=lzma %s: got %v", preset, got)
		}
	}
}

func TestFromName(t *testing.T) {
	for name, want := range map[string]Format{
		"a.tar": None, "a.tar.gz": Gzip, "A.TGZ": Gzip, "a.tar.bz2": Bzip2, "a.tbz2": Bzip2, "a.tbz": Bzip2,
		"a.tar.xz": XZ, "a.txz": XZ, "a.tar.lzma": LZMA, "a.tlzma": LZMA, "a.tar.zst": Zstd, "a.oci.tzst": Zstd,
	} {
		if got, ok := FromName(name); !ok || got != want {
			t.Errorf("%s: got %v, %v", name, got, ok)
		}
	}
	for _, name := range []string{"", "a", "a.zip", "a.gz", "atar", "tar"} {
		if got, ok := FromName(name); ok {
			t.Errorf("%q: got %v", name, got)
		}
	}
}
