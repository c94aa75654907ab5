package image

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"proot-distro/internal/compression"
	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

const (
	// detectEntries is how many entries of a tar archive may come before the first
	// that hints at an image.
	detectEntries = 500
	// maxEntries bounds the table of files; images need a few hundred.
	maxEntries = 20000
	maxHops    = 8 // links from a name to its file
)

// files are the files of an image archive, by slash-separated names.
type files interface {
	has(name string) bool
	// open gives a regular file and its size, fs.ErrNotExist if there is none.
	open(name string) (io.ReadCloser, int64, error)
	Close() error
}

// openArchive finds the files of an archive. It is [ErrNotImage] if they cannot be
// those of an image.
func openArchive(ctx context.Context, path string, cache *Cache, rep report.Reporter) (files, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, report.Cause(err)
	case info.IsDir():
		return openDirectory(path)
	case !info.Mode().IsRegular(): // it could be read once only, or forever
		return nil, errors.New("it is not a regular file: save the archive to a file first")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, report.Cause(err)
	}
	head := make([]byte, compression.DetectLen)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		f.Close()
		return nil, report.Cause(err)
	}
	if compression.Detect(head[:n]) == compression.None {
		return indexTar(ctx, f)
	}
	defer f.Close()
	meter := rep.Begin(report.Task{Label: "Reading " + filepath.Base(path), Total: info.Size()})
	defer meter.Done()
	return spoolTar(ctx, &watched{ctx: ctx, r: f, meter: meter}, cache)
}

// directory is an archive that is not packed.
type directory struct{ *rootfs.FS }

func openDirectory(path string) (files, error) {
	tree, err := rootfs.Open(path, rootfs.GuestLinks)
	if err != nil {
		return nil, err
	}
	d := directory{tree}
	if !d.has(layoutFile) && !d.has(dockerManifestFile) {
		return nil, errors.Join(errors.New("it is a directory without an OCI image layout"), tree.Close())
	}
	return d, nil
}

func (d directory) has(name string) bool {
	info, err := d.Stat(name)
	return err == nil && info.Mode.IsRegular()
}

func (d directory) open(name string) (io.ReadCloser, int64, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// tarFiles are files of a tar archive, by their place in it or in a spool.
type tarFiles struct {
	data    *os.File
	entries map[string]tarEntry
}

type tarEntry struct {
	offset, size int64
	link         string // another name, for a link
}

func (t *tarFiles) has(name string) bool {
	_, ok := t.find(name)
	return ok
}

// find follows links inside of the archive; older archives of docker save have them
// where layers are equal.
func (t *tarFiles) find(name string) (tarEntry, bool) {
	name, ok := cleanName(name)
	for range maxHops {
		entry, found := t.entries[name]
		if !ok || !found || entry.link == "" {
			return entry, ok && found
		}
		name = entry.link
	}
	return tarEntry{}, false
}

func (t *tarFiles) open(name string) (io.ReadCloser, int64, error) {
	entry, ok := t.find(name)
	if !ok {
		return nil, 0, fs.ErrNotExist
	}
	return io.NopCloser(io.NewSectionReader(t.data, entry.offset, entry.size)), entry.size, nil
}

func (t *tarFiles) Close() error {
	if t.data == nil {
		return nil
	}
	return t.data.Close()
}

// indexTar notes where the files of an uncompressed archive are; their bytes are
// skipped. It takes f over.
func indexTar(ctx context.Context, f *os.File) (files, error) {
	t := &tarFiles{data: f, entries: map[string]tarEntry{}}
	source := struct { // a Seeker, for package tar to skip with
		io.Reader
		io.Seeker
	}{&watched{ctx: ctx, r: f}, f}
	err := t.scan(tar.NewReader(source), func(*tar.Reader) (int64, error) { return f.Seek(0, io.SeekCurrent) })
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// spoolTar copies the files of a compressed archive that matter to an image into a
// nameless temporary file, so that one pass suffices in whatever order they come.
func spoolTar(ctx context.Context, r io.Reader, cache *Cache) (files, error) {
	plain, err := compression.NewReader(r)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	t := &tarFiles{entries: map[string]tarEntry{}}
	var end int64
	err = t.scan(tar.NewReader(plain), func(content *tar.Reader) (int64, error) {
		if t.data == nil {
			spool, err := cache.spool()
			if err != nil {
				return 0, err
			}
			t.data = spool
		}
		start := end
		n, err := io.CopyBuffer(struct{ io.Writer }{t.data}, content, make([]byte, 128<<10))
		end += n
		return start, err
	})
	if err == nil {
		_, err = io.Copy(io.Discard, plain) // for the checksum at the end
	}
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// spool makes a file without a name beside the layers.
func (c *Cache) spool() (*os.File, error) {
	dir, err := c.dir(c.layers, true)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	name := "spool-" + rand.Text()
	f, err := dir.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create temporary file: %w", err)
	}
	if err := dir.Remove(name); err != nil {
		return nil, errors.Join(fmt.Errorf("create temporary file: %w", err), f.Close())
	}
	return f, nil
}

// scan notes the entries that an image can have; of several with one name the last
// counts, as when unpacking. keep says where an entry's bytes are.
func (t *tarFiles) scan(tr *tar.Reader, keep func(*tar.Reader) (offset int64, err error)) error {
	hinted := false
	for n := 0; ; n++ {
		if n >= detectEntries && !hinted {
			return ErrNotImage
		}
		header, err := tr.Next()
		if err == io.EOF {
			return nil
		} else if err != nil && !hinted && isTarProblem(err) {
			return ErrNotImage // whoever reads it as something else will meet the error again
		} else if err != nil {
			return archiveProblem(err)
		}
		name, ok := cleanName(header.Name)
		if !ok || !canBelong(name) {
			continue
		}
		if len(t.entries) >= maxEntries {
			return fmt.Errorf("archive has more than %d files that could belong to an image", maxEntries)
		}
		hinted = hinted || imageName().MatchString(name)
		switch header.Typeflag {
		case tar.TypeReg:
			if isSparse(header) {
				continue
			}
			offset, err := keep(tr)
			if err != nil {
				return archiveProblem(err)
			}
			t.entries[name] = tarEntry{offset: offset, size: header.Size}
		case tar.TypeSymlink:
			t.link(name, path.Join(path.Dir(name), header.Linkname))
		case tar.TypeLink:
			t.link(name, header.Linkname)
		}
	}
}

func (t *tarFiles) link(name, target string) {
	if target, ok := cleanName(target); ok && target != name {
		t.entries[name] = tarEntry{link: target}
	}
}

// cleanName refuses names that lead outside.
func cleanName(name string) (string, bool) {
	clean := path.Clean(name)
	return clean, fs.ValidPath(clean) && clean != "."
}

// imageName are the names that hint at an image. Names in manifest.json may be others,
// but then it says so itself.
var imageName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(oci-layout|index\.json|manifest\.json|blobs/sha256/[0-9a-f]{64}|[0-9a-f]{64}(/layer\.tar|/json|/VERSION|\.json|\.tar))$`)
})

// canBelong tells files that image archives consist of from those of a rootfs, which
// are not worth noting.
func canBelong(name string) bool {
	switch strings.Count(name, "/") {
	case 0:
		return true
	case 1:
		return strings.Contains(path.Base(name), ".tar")
	case 2:
		return strings.HasPrefix(name, blobsDir+"/")
	}
	return false
}

// isSparse knows the entries whose bytes are not stored one after the other.
func isSparse(header *tar.Header) bool {
	for key := range header.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// isTarProblem tells errors of the tar format from those of reading and decompressing.
func isTarProblem(err error) bool {
	return errors.Is(err, tar.ErrHeader) || err == io.ErrUnexpectedEOF
}

// archiveProblem words an error of the tar format.
func archiveProblem(err error) error {
	switch {
	case !isTarProblem(err):
		return err
	case errors.Is(err, tar.ErrHeader):
		return errors.New("the tar archive is corrupt")
	}
	return errors.New("the tar archive is truncated")
}
