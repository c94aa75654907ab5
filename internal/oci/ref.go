package oci

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"path"
	"strconv"
	"strings"

	"proot-distro/internal/platform"
)

// DockerHub is [Ref.Registry] of images that name no registry.
const DockerHub = "docker.io"

// Ref is a parsed image reference.
type Ref struct {
	Registry   string // "docker.io" for Docker Hub, "ghcr.io", "localhost:5000"
	Repository string // "library/ubuntu"
	Tag        string // "latest" when neither tag nor digest was given
	Digest     string // "sha256:…", empty without one
}

// ParseRef reads an image reference in the grammar of the distribution project
// (https://pkg.go.dev/github.com/distribution/reference): [registry/]name[:tag][@sha256:digest].
// A first component names a registry when it is localhost or holds a dot or a colon. Its error is a [*RefError].
func ParseRef(s string) (Ref, error) {
	ref, err := parseRef(s)
	if err != nil {
		return Ref{}, &RefError{err}
	}
	return ref, nil
}

// RefError says in a sentence why a text is no reference.
type RefError struct{ err error }

func (e *RefError) Error() string { return e.err.Error() }

func parseRef(s string) (Ref, error) {
	if err := obviousMistake(s); err != nil {
		return Ref{}, err
	}
	registry, rest := splitRegistry(s)
	name, sum, digested := strings.Cut(rest, "@")
	repository, tag, tagged := strings.Cut(name, ":")
	ref := Ref{Registry: registry, Repository: repository, Tag: tag}
	bad := func(format string, args ...any) (Ref, error) {
		return Ref{}, fmt.Errorf("image reference %q"+format, append([]any{Clip(s)}, args...)...)
	}
	switch {
	case len(s) == hex.EncodedLen(sha256.Size) && strings.Trim(s, "0123456789abcdef") == "":
		return bad(" is a bare ID: write name@sha256:%s", s)
	case repository != strings.ToLower(repository):
		return bad(" must be in lower case")
	case digested:
		d, err := ParseDigest(sum)
		if err != nil {
			return bad(": %w", err)
		}
		ref.Digest = d.String()
	case !tagged:
		ref.Tag = "latest"
	}
	switch {
	case tagged && !isTag(tag), !isRegistry(registry), !isRepository(repository):
		return bad(" is malformed: it must look like [registry/]name[:tag][@sha256:digest]")
	case len(repository) > maxRepository:
		return bad(" is too long: a name has at most %d characters", maxRepository)
	}
	return ref, checkPort(s, registry)
}

// splitRegistry takes the registry off a reference and fills in what Docker Hub's users
// leave out.
func splitRegistry(s string) (registry, rest string) {
	registry, rest, found := strings.Cut(s, "/")
	if !found || registry != "localhost" && !strings.ContainsAny(registry, ".:") {
		registry, rest = DockerHub, s
	}
	if registry = strings.ToLower(registry); registry == "index.docker.io" {
		registry = DockerHub
	}
	if registry == DockerHub && !strings.Contains(rest, "/") {
		rest = "library/" + rest
	}
	return registry, rest
}

// obviousMistake names the errors that people make, which the grammar would only
// call "invalid".
func obviousMistake(s string) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("image reference %q "+format, append([]any{Clip(s)}, args...)...)
	}
	first, _, hasSlash := strings.Cut(s, "/")
	switch {
	case s == "":
		return errors.New("image reference is empty")
	case strings.Contains(s, "://"):
		scheme, _, _ := strings.Cut(s, "://")
		switch scheme {
		case "docker", "oci", "http", "https":
			return bad("must be written without %s://", scheme)
		}
		return bad("is a URL, and only those of http and https can be fetched")
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return bad("contains a space or a control character")
	case strings.HasSuffix(s, ":"):
		return bad("ends with a colon but has no tag after it")
	case strings.HasSuffix(s, "@"):
		return bad("ends with @ but has no digest after it")
	case strings.HasSuffix(s, "/"):
		return bad("ends with a slash but has no name after it")
	case hasSlash && first != strings.ToLower(first) && first != "localhost" && !strings.ContainsAny(first, ".:"):
		// The grammar would call it a registry, but none has such a name.
		return bad("must be in lower case")
	}
	return nil
}

func checkPort(s, registry string) error {
	i := strings.LastIndexByte(registry, ':')
	if i < 0 || strings.HasSuffix(registry, "]") {
		return nil
	}
	if n, err := strconv.Atoi(registry[i+1:]); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("image reference %q has a bad port: %s", Clip(s), registry[i+1:])
	}
	return nil
}

// Loopback reports whether the registry is on this machine: localhost,
// 127.0.0.0/8 or [::1], with or without a port.
func (r Ref) Loopback() bool {
	host := r.Registry
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback()
}

// String is the familiar form, with what was left out by the user: ubuntu:24.04,
// ghcr.io/foo/bar:latest, alpine@sha256:….
func (r Ref) String() string {
	name := r.hubName()
	if short, ok := strings.CutPrefix(name, "library/"); ok && !strings.Contains(short, "/") {
		name = short
	}
	if r.Tag != "" {
		name += ":" + r.Tag
	}
	if r.Digest != "" {
		name += "@" + r.Digest
	}
	return name
}

// Canonical is the form that keys the manifest cache: library/ubuntu:latest,
// ghcr.io/foo/bar:latest. A digest makes the tag meaningless, so it is left out then.
func (r Ref) Canonical() string {
	if r.Digest != "" {
		return r.hubName() + "@" + r.Digest
	}
	return r.hubName() + ":" + r.Tag
}

// hubName leaves out docker.io, unless the rest would be read as another registry.
func (r Ref) hubName() string {
	first, _, _ := strings.Cut(r.Repository, "/")
	if r.Registry == DockerHub && first != "localhost" && !strings.Contains(first, ".") {
		return r.Repository
	}
	return r.Registry + "/" + r.Repository
}

// CacheKey is the name, without suffix, of the image's file in the manifest cache:
// 16 hex digits.
func (r Ref) CacheKey(arch platform.Arch) string {
	sum := sha256.Sum256([]byte(r.Canonical() + "_" + string(arch)))
	return hex.EncodeToString(sum[:8])
}

// DefaultName is the name of a container made from this image when the user gives
// none: the last component of the repository.
func (r Ref) DefaultName() string { return path.Base(r.Repository) }
