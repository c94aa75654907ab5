package install

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"proot-distro/internal/oci"
)

// Kind says where a container's files come from.
type Kind int

// The kinds of Source.
const (
	FromRegistry Kind = iota
	FromArchive
	FromURL
)

// Source is the parsed IMAGE, PATH or URL argument of `install`.
type Source struct {
	Kind  Kind
	Typed string  // what the user typed
	Ref   oci.Ref // FromRegistry
	Path  string  // FromArchive: host path
	URL   *url.URL
}

// ParseSource tells the three kinds apart by spelling alone: a path starts with
// /, ./, ../ or ~, a URL with http:// or https://, and everything else is an
// image reference even if a file of that name exists.
func ParseSource(typed, home string) (Source, error) {
	src := Source{Typed: typed}
	switch {
	case typed == "":
		return src, fmt.Errorf("the image name is empty: give an image like debian:12, a path like ./rootfs.tar.xz, or a URL")
	case strings.HasPrefix(typed, "http://"), strings.HasPrefix(typed, "https://"):
		u, err := url.Parse(typed)
		if err != nil || u.Host == "" {
			return src, fmt.Errorf("%q is not a valid URL", typed)
		}
		src.Kind, src.URL = FromURL, u
	case isPath(typed):
		path, err := expandHome(typed, home)
		if err != nil {
			return src, err
		}
		src.Kind, src.Path = FromArchive, path
	default:
		ref, err := oci.ParseRef(typed)
		if err != nil {
			return src, err
		}
		src.Ref = ref
	}
	return src, nil
}

func isPath(typed string) bool {
	for _, prefix := range []string{"/", "./", "../", "~"} {
		if strings.HasPrefix(typed, prefix) {
			return true
		}
	}
	return typed == "." || typed == ".."
}

// expandHome expands a leading ~/ for people whose shell did not (quoted
// arguments); ~other is the shell's business.
func expandHome(path, home string) (string, error) {
	rest, ok := strings.CutPrefix(path, "~")
	if !ok {
		return path, nil
	}
	if rest != "" && rest[0] != '/' {
		return "", fmt.Errorf("%q names another user's home directory: write the path out", path)
	}
	if home == "" {
		return "", fmt.Errorf("cannot expand %q because HOME is not set: write the path out", path)
	}
	return filepath.Join(home, rest), nil
}

// archiveSuffixes are dropped from a file name to make a container name;
// longer ones stand before their own endings.
var archiveSuffixes = []string{
	".oci.tar.gz", ".oci.tar.xz", ".oci.tar.zst", ".oci.tar.bz2", ".oci.tar", ".oci",
	".tar.gz", ".tar.bz2", ".tar.xz", ".tar.lzma", ".tar.zst", ".tar",
	".tgz", ".tbz2", ".txz", ".tlzma", ".tzst",
}

// DefaultName derives the container's name: the image's last path component,
// or the archive's file name without its extension, made acceptable.
func (s Source) DefaultName() string {
	switch s.Kind {
	case FromArchive:
		return nameFromFile(filepath.Base(filepath.Clean(s.Path)))
	case FromURL:
		return nameFromFile(filepath.Base(s.URL.Path))
	}
	return s.Ref.DefaultName()
}

func nameFromFile(file string) string {
	lower := strings.ToLower(file)
	for _, suffix := range archiveSuffixes {
		if strings.HasSuffix(lower, suffix) {
			file = file[:len(file)-len(suffix)]
			break
		}
	}
	var name strings.Builder
	for _, c := range file {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '.', c == '-':
			name.WriteRune(c)
		default:
			name.WriteByte('-')
		}
	}
	return strings.TrimLeft(name.String(), "_.-")
}
