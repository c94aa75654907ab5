package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/report"
)

// ErrNotImage means that an archive holds no image: perhaps it is a plain rootfs tarball.
var ErrNotImage = errors.New("not an image archive")

// maxImageRef is the longest name of an image that is taken from an archive.
const maxImageRef = 255

// FromArchive takes an image out of an archive and puts its layers into the cache. path
// is an OCI image layout (a tar archive or a directory) or what docker save wrote in
// any of its layouts; a tar archive may be compressed as a whole. Where an archive is both,
// the OCI layout counts. Of several images the only one for arch is taken.
//
// The error is [ErrNotImage] for another kind of tar archive, an [oci.NoPlatformError]
// when there is no image for arch, a [DigestError] when a blob is not what its digest says.
// None names the archive. Nothing in it is believed: names are looked up, never used as paths of the host.
func FromArchive(ctx context.Context, path string, arch platform.Arch, cache *Cache, rep report.Reporter) (*Image, error) {
	img, err := fromArchive(ctx, path, arch, cache, rep)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return img, err
}

func fromArchive(ctx context.Context, path string, arch platform.Arch, cache *Cache, rep report.Reporter) (*Image, error) {
	files, err := openArchive(ctx, path, cache, rep)
	if err != nil {
		return nil, err
	}
	defer files.Close()
	a := &archive{ctx: ctx, files: files, arch: arch, cache: cache, rep: rep}
	found, err := a.find()
	if err != nil {
		return nil, err
	}
	rec := &oci.Record{
		ImageRef: imageRef(append(found.names, filepath.Base(path))),
		Arch:     arch,
		Manifest: found.manifest,
		Config:   found.config,
	}
	descriptors, err := rec.Layers()
	if err != nil {
		return nil, err
	}
	if _, err := rec.Encode(); err != nil { // before the layers are copied: will it be possible?
		return nil, err
	}
	if err := a.store(descriptors, found.layerFiles); err != nil {
		return nil, err
	}
	img := &Image{Record: rec}
	for _, d := range descriptors {
		img.Layers = append(img.Layers, cache.Blob(d))
	}
	return img, nil
}

// imageRef is the first name that can be shown; the last one is our user's.
func imageRef(names []string) string {
	for _, name := range names {
		odd := strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) })
		if name == "" || len(name) > maxImageRef || !utf8.ValidString(name) || odd {
			continue
		}
		// Tools other than Docker spell its registry out.
		if ref, err := oci.ParseRef(name); err == nil && strings.HasPrefix(name, "docker.io/") {
			return ref.String()
		}
		return name
	}
	return names[len(names)-1]
}

// archive is an image archive at work.
type archive struct {
	ctx   context.Context
	files files
	arch  platform.Arch
	cache *Cache
	rep   report.Reporter
}

// foundImage is the image that was chosen from an archive.
type foundImage struct {
	names            []string // best first
	manifest, config []byte
	layerFiles       []string // of the manifest's layers, in the archive
}

func (a *archive) find() (*foundImage, error) {
	if a.files.has(layoutFile) {
		return a.findOCI()
	}
	if a.files.has(dockerManifestFile) {
		return a.findDocker()
	}
	return nil, ErrNotImage
}

// readFile reads a whole file of the archive.
func (a *archive) readFile(name string, limit int64) ([]byte, error) {
	f, size, err := a.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > limit {
		return nil, fmt.Errorf("%q is larger than %d MiB", name, limit>>20)
	}
	data, err := io.ReadAll(io.LimitReader(f, size))
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", name, err)
	}
	return data, nil
}

func (a *archive) open(name string) (io.ReadCloser, int64, error) {
	if err := a.ctx.Err(); err != nil {
		return nil, 0, err
	}
	f, size, err := a.files.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, &missingError{name}
	}
	return f, size, err
}

// missingError says that an archive lacks a file that it speaks of.
type missingError struct{ name string }

func (e *missingError) Error() string {
	return fmt.Sprintf("%q is missing: the archive is incomplete", e.name)
}

// store copies the layers that the cache lacks into it.
func (a *archive) store(layers []v1.Descriptor, layerFiles []string) error {
	missing := map[digest.Digest]string{}
	var total int64
	for i, d := range layers {
		if _, listed := missing[d.Digest]; !listed && !a.cache.Has(d) {
			missing[d.Digest] = layerFiles[i]
			total += d.Size
		}
	}
	if len(missing) == 0 {
		return nil
	}
	meter := a.rep.Begin(report.Task{Label: "Copying layers", Total: total})
	defer meter.Done()
	for _, d := range layers {
		name, ok := missing[d.Digest]
		if !ok {
			continue
		}
		delete(missing, d.Digest)
		if err := a.storeLayer(d, name, meter); err != nil {
			return err
		}
	}
	return nil
}

func (a *archive) storeLayer(d v1.Descriptor, name string, meter report.Meter) error {
	f, size, err := a.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if size != d.Size {
		return &DigestError{What: "layer", Want: string(d.Digest), Got: fmt.Sprintf("%d bytes instead of %d", size, d.Size)}
	}
	p, err := a.cache.Partial(a.ctx, d, func() { a.rep.Infof("Waiting for another command that stores the same layer…") })
	if errors.Is(err, ErrCached) {
		return nil
	} else if err != nil {
		return err
	}
	defer p.Close()
	if err := p.Reset(); err != nil {
		return err
	}
	if _, err := io.CopyBuffer(p, &watched{ctx: a.ctx, r: f, meter: meter}, make([]byte, 256<<10)); err != nil {
		// Half a copy is worth nothing: the archive is at hand.
		return errors.Join(fmt.Errorf("copy layer: %w", err), p.Reset())
	}
	return p.Commit()
}

// digestFile returns the digest of a file of the archive.
func (a *archive) digestFile(name string) (digest.Digest, error) {
	f, _, err := a.open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	d, err := digest.FromReader(&watched{ctx: a.ctx, r: f})
	if err != nil {
		return "", fmt.Errorf("read %q: %w", name, err)
	}
	return d, nil
}

// watched is a reader that ends with its context and counts into a meter, if it has one.
type watched struct {
	ctx   context.Context
	r     io.Reader
	meter report.Meter
}

func (w *watched) Read(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.r.Read(p)
	if w.meter != nil {
		w.meter.Add(int64(n))
	}
	return n, err
}
