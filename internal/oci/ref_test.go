package oci

import (
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/google/go-cmp/cmp"

	"proot-distro/internal/platform"
)

var sum = "sha256:" + strings.Repeat("0123456789abcdef", 4)

func TestParseRef(t *testing.T) {
	tests := []struct {
		in                        string
		want                      Ref
		familiar, canonical, name string
	}{
		{"ubuntu", Ref{"docker.io", "library/ubuntu", "latest", ""}, "ubuntu:latest", "library/ubuntu:latest", "ubuntu"},
		{"ubuntu:24.04", Ref{"docker.io", "library/ubuntu", "24.04", ""}, "ubuntu:24.04", "library/ubuntu:24.04", "ubuntu"},
		{"docker.io/library/ubuntu:24.04", Ref{"docker.io", "library/ubuntu", "24.04", ""}, "ubuntu:24.04", "library/ubuntu:24.04", "ubuntu"},
		{"index.docker.io/ubuntu", Ref{"docker.io", "library/ubuntu", "latest", ""}, "ubuntu:latest", "library/ubuntu:latest", "ubuntu"},
		{"Index.Docker.IO/ubuntu", Ref{"docker.io", "library/ubuntu", "latest", ""}, "ubuntu:latest", "library/ubuntu:latest", "ubuntu"},
		{"user/repo", Ref{"docker.io", "user/repo", "latest", ""}, "user/repo:latest", "user/repo:latest", "repo"},
		{"ghcr.io/foo/bar", Ref{"ghcr.io", "foo/bar", "latest", ""}, "ghcr.io/foo/bar:latest", "ghcr.io/foo/bar:latest", "bar"},
		{"GHCR.io/foo/bar", Ref{"ghcr.io", "foo/bar", "latest", ""}, "ghcr.io/foo/bar:latest", "ghcr.io/foo/bar:latest", "bar"},
		{"localhost/foo", Ref{"localhost", "foo", "latest", ""}, "localhost/foo:latest", "localhost/foo:latest", "foo"},
		{"localhost:5000/foo", Ref{"localhost:5000", "foo", "latest", ""}, "localhost:5000/foo:latest", "localhost:5000/foo:latest", "foo"},
		{"localhost:5000", Ref{"docker.io", "library/localhost", "5000", ""}, "localhost:5000", "library/localhost:5000", "localhost"},
		{"[::1]:5000/a/b:t", Ref{"[::1]:5000", "a/b", "t", ""}, "[::1]:5000/a/b:t", "[::1]:5000/a/b:t", "b"},
		{"alpine@" + sum, Ref{"docker.io", "library/alpine", "", sum}, "alpine@" + sum, "library/alpine@" + sum, "alpine"},
		{"alpine:3@" + sum, Ref{"docker.io", "library/alpine", "3", sum}, "alpine:3@" + sum, "library/alpine@" + sum, "alpine"},
		{"r.example:1/a@" + sum, Ref{"r.example:1", "a", "", sum}, "r.example:1/a@" + sum, "r.example:1/a@" + sum, "a"},
		{"docker.io/ghcr.io/x", Ref{"docker.io", "ghcr.io/x", "latest", ""}, "docker.io/ghcr.io/x:latest", "docker.io/ghcr.io/x:latest", "x"},
		{"a__b/c--d", Ref{"docker.io", "a__b/c--d", "latest", ""}, "a__b/c--d:latest", "a__b/c--d:latest", "c--d"},
	}
	for _, tt := range tests {
		got, err := ParseRef(tt.in)
		if err != nil {
			t.Errorf("ParseRef(%q): %v", tt.in, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("ParseRef(%q): %s", tt.in, diff)
		}
		if got.String() != tt.familiar || got.Canonical() != tt.canonical || got.DefaultName() != tt.name {
			t.Errorf("%q: String %q, Canonical %q, DefaultName %q", tt.in, got.String(), got.Canonical(), got.DefaultName())
		}
	}
}

func TestParseRefErrors(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", "empty"},
		{"Ubuntu", "lower case"},
		{"Foo/bar", "lower case"},
		{"ghcr.io/Foo/bar", "lower case"},
		{"ubuntu 24.04", "space"},
		{" ubuntu", "space"},
		{"ubu\x00ntu", "control"},
		{"http://ghcr.io/foo", "without http://"},
		{"docker://ubuntu", "without docker://"},
		{"ubuntu:", "no tag"},
		{"ubuntu@", "no digest"},
		{"ghcr.io/", "no name"},
		{"../foo:bar", "malformed"},
		{"foo//bar", "malformed"},
		{"foo/../bar", "malformed"},
		{"-foo", "malformed"},
		{"foo:bar:baz", "malformed"},
		{"foo:" + strings.Repeat("x", 129), "malformed"},
		{"localhost:99999/foo", "bad port"},
		{strings.Repeat("a", 64), "bare ID"},
		{strings.Repeat("x/", 200) + "y", "too long"},
		{"foo@sha256:123", "64 lower-case hex"},
		{"foo@sha256:" + strings.Repeat("A", 64), "64 lower-case hex"},
		{"foo@sha512:" + strings.Repeat("a", 128), "64 lower-case hex"},
		{"foo@md5:" + strings.Repeat("a", 32), "64 lower-case hex"},
	}
	for _, tt := range tests {
		_, err := ParseRef(tt.in)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("ParseRef(%q) = %v, want an error with %q", tt.in, err, tt.want)
		}
	}
}

func TestCacheKey(t *testing.T) {
	// printf 'library/ubuntu:24.04_x86_64' | sha256sum
	const want = "b69166679079008a"
	for _, s := range []string{"ubuntu:24.04", "docker.io/library/ubuntu:24.04"} {
		ref, err := ParseRef(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := ref.CacheKey(platform.X86_64); got != want {
			t.Errorf("CacheKey of %s = %s, want %s", s, got, want)
		}
	}
}

func TestLoopback(t *testing.T) {
	for in, want := range map[string]bool{
		"localhost/a": true, "localhost:1/a": true, "127.0.0.1/a": true, "127.8.9.1:80/a": true, "[::1]:5/a": true, "[::1]/a": true,
		"a": false, "ghcr.io/a": false, "10.0.0.1:5/a": false, "127.example.com/a": false, "localhost.example/a": false,
	} {
		ref, err := ParseRef(in)
		if err != nil {
			t.Fatal(err)
		}
		if ref.Loopback() != want {
			t.Errorf("Loopback of %s = %v", in, !want)
		}
	}
}

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"ubuntu", "ghcr.io/foo/bar:tag", "localhost:5000/a@" + sum, "a:b@" + sum, "[::1]:80/x",
		"docker.io/localhost/x", "index.docker.io/x", "http://x", "Foo/bar", "../x", "1.2.3.4/a", "docker.io/a.b/c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := ParseRef(s)
		comparePublished(t, s, ref, err)
		if err != nil {
			return
		}
		again, err := ParseRef(ref.String())
		if err != nil || again != ref {
			t.Fatalf("%q → %+v → %q → %+v, %v", s, ref, ref.String(), again, err)
		}
		if n := ref.DefaultName(); n == "" || strings.ContainsAny(n, "/:@") || strings.HasPrefix(n, ".") {
			t.Fatalf("%q gives the name %q", s, n)
		}
	})
}

// comparePublished parses s with the distribution project's own code, which accepts more: algorithms of
// digests that we cannot check, ports that don't exist, and registries in capitals without a dot.
func comparePublished(t *testing.T, s string, got Ref, err error) {
	t.Helper()
	named, theirs := reference.ParseNormalizedNamed(s)
	if theirs != nil {
		if err == nil {
			t.Fatalf("%q → %+v, but: %v", s, got, theirs)
		}
		return
	}
	digested, _ := named.(reference.Digested)
	odd := err != nil && (strings.Contains(err.Error(), "bad port") || strings.Contains(err.Error(), "bad digest") ||
		strings.Contains(err.Error(), "lower case"))
	switch domain := reference.Domain(named); {
	case odd, domain == "":
	case err != nil:
		t.Fatalf("%q: %v, but there it is %v", s, err, named)
	case reference.Path(named) != got.Repository || !strings.EqualFold(domain, got.Registry) && got.Registry != DockerHub,
		digested != nil && digested.Digest().String() != got.Digest:
		t.Fatalf("%q → %+v, but there it is %v", s, got, named)
	}
	if tagged, ok := named.(reference.Tagged); ok && !odd && err == nil && tagged.Tag() != got.Tag {
		t.Fatalf("%q has the tag %q, but there it is %q", s, got.Tag, tagged.Tag())
	}
}
