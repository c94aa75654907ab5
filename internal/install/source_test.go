package install

import (
	"strings"
	"testing"

	"proot-distro/internal/container"
)

func TestParseSource(t *testing.T) {
	for _, test := range []struct {
		typed, home string
		kind        Kind
		what        string // reference, path or URL
		name        string // of the container
		err         string
	}{
		{typed: "debian", kind: FromRegistry, what: "debian:latest", name: "debian"},
		{typed: "ghcr.io/Me/app", err: "ghcr.io/Me/app"},
		{typed: "ghcr.io/me/app:1.2", kind: FromRegistry, what: "ghcr.io/me/app:1.2", name: "app"},
		{typed: "rootfs.tar.xz", kind: FromRegistry, what: "rootfs.tar.xz:latest", name: "rootfs.tar.xz"},
		{typed: "./rootfs.tar.xz", kind: FromArchive, what: "./rootfs.tar.xz", name: "rootfs"},
		{typed: "../My Image (1).OCI.TAR.ZST", kind: FromArchive, what: "../My Image (1).OCI.TAR.ZST", name: "My-Image--1-"},
		{typed: "/a/.hidden.tgz", kind: FromArchive, what: "/a/.hidden.tgz", name: "hidden"},
		{typed: "/a/b/", kind: FromArchive, what: "/a/b/", name: "b"},
		{typed: "..", kind: FromArchive, what: ".."},
		{typed: "~/x.tar", home: "/home/me", kind: FromArchive, what: "/home/me/x.tar", name: "x"},
		{typed: "~/x.tar", err: "HOME is not set"},
		{typed: "~you/x.tar", home: "/home/me", err: "another user's home"},
		{typed: "https://example.org/d/alpine-3.20.tar.gz?x=1", kind: FromURL, what: "https://example.org/d/alpine-3.20.tar.gz?x=1", name: "alpine-3.20"},
		{typed: "http:///x.tar", err: "not a valid URL"},
		{typed: "", err: "the image name is empty"},
	} {
		src, err := ParseSource(test.typed, test.home)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%q: %v, not %q", test.typed, err, test.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", test.typed, err)
			continue
		}
		what := src.Path
		switch src.Kind {
		case FromRegistry:
			what = src.Ref.String()
		case FromURL:
			what = src.URL.String()
		}
		if src.Kind != test.kind || what != test.what {
			t.Errorf("%q: kind %d, %s; want %d, %s", test.typed, src.Kind, what, test.kind, test.what)
		}
		name, err := chooseName(Request{Source: src})
		if name != test.name || (err == nil) != (test.name != "") {
			t.Errorf("%q: a container %q, %v; want %q", test.typed, name, err, test.name)
		}
	}
}

// Whatever a file is called, its container has a name that is allowed, or none.
func FuzzNameFromFile(f *testing.F) {
	for _, name := range []string{"rootfs.tar.gz", "..", "-x", "ä.tar", strings.Repeat("x", 300), "a b"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, file string) {
		name, err := chooseName(Request{Source: Source{Kind: FromArchive, Path: "/" + file}})
		if err == nil && container.ValidateName(name) != nil {
			t.Errorf("%q becomes %q", file, name)
		}
	})
}
