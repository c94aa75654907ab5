package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"strings"

	"proot-distro/internal/build/layout"
	"proot-distro/internal/registry"
	"proot-distro/internal/rootfs"
)

// fetchedFile is the name that a download has in its scratch directory.
const fetchedFile = "file"

// fetch downloads a URL into a scratch directory.
func (b *Builder) fetch(ctx context.Context, in *scratch, where string) (*rootfs.FS, registry.Fetched, error) {
	from, err := url.Parse(where)
	if err != nil || from.Host == "" {
		return nil, registry.Fetched{}, fmt.Errorf("%s is not a valid URL", where)
	}
	root, err := in.tree("download")
	if err != nil {
		return nil, registry.Fetched{}, err
	}
	dir, err := root.OpenDir("/")
	if err != nil {
		return nil, registry.Fetched{}, err
	}
	defer dir.Close()
	file, err := dir.Create(fetchedFile, 0o600)
	if err != nil {
		return nil, registry.Fetched{}, err
	}
	got, err := registry.Fetch(ctx, registry.FetchRequest{
		URL: from, Insecure: b.Insecure, Version: b.Version, Into: file, Label: "Fetching " + urlBase(where), Report: b.Report,
	})
	return root, got, errors.Join(err, file.Close())
}

// download fetches a source of ADD. checksum is "sha256:<hex>", or "".
func (s *stage) download(ctx context.Context, where, checksum string) (layout.File, error) {
	want, isSum := strings.CutPrefix(checksum, "sha256:")
	if checksum != "" && (!isSum || len(want) != 2*sha256.Size || strings.Trim(want, "0123456789abcdef") != "") {
		return layout.File{}, fmt.Errorf("ADD --checksum=%s: it must be sha256: and 64 lower-case hex digits", checksum)
	}
	root, got, err := s.fetch(ctx, s.scratch, where)
	if err != nil {
		return layout.File{}, err
	}
	if want != "" {
		sum, err := sumOf(root)
		if err != nil {
			return layout.File{}, err
		}
		if sum != want {
			return layout.File{}, fmt.Errorf("%s is not what --checksum asks for: its checksum is sha256:%s", where, sum)
		}
	}
	return layout.File{Mode: 0o600, Size: got.Size, MTime: got.Modified, Times: true, Root: root, Name: fetchedFile}, nil
}

// sumOf is the SHA-256 of what was fetched.
func sumOf(root *rootfs.FS) (string, error) {
	file, err := root.Open(fetchedFile)
	if err != nil {
		return "", err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// urlBase is the file name in a URL, "" without one.
func urlBase(where string) string {
	rest := where[strings.Index(where, "://")+3:]
	rest, _, _ = strings.Cut(rest, "?")
	rest, _, _ = strings.Cut(rest, "#")
	_, file, _ := strings.Cut(rest, "/")
	if base := path.Base("/" + file); base != "/" && !strings.HasSuffix(file, "/") {
		return base
	}
	return ""
}
