package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/internal/rootfs"
)

// ownerAccess is what filling a directory takes.
const ownerAccess = 0o700

// applier applies entries to a tree.
type applier struct {
	root  *rootfs.FS
	o     Options
	stats Stats

	dirs    *dirCache
	file    *fileWriter        // the file that the coming parts belong to, if wanted
	pending map[string]dirMeta // directories to be finished, by path without links
	written *pathSet           // by this layer; for whiteouts
	skipped *pathSet           // devices and the like, which hard links may name
}

// dirMeta is what a directory gets at the end.
type dirMeta struct {
	mode  fs.FileMode
	mtime time.Time // zero to leave it
}

func newApplier(root *rootfs.FS, o Options) *applier {
	return &applier{
		root:    root,
		o:       o,
		dirs:    newDirCache(root),
		pending: map[string]dirMeta{},
		written: newPathSet(),
		skipped: newPathSet(),
	}
}

func (a *applier) close() {
	if a.file != nil {
		a.file.f.Close()
	}
	a.dirs.close()
}

// place is where an entry goes.
type place struct {
	dir  *rootfs.Dir
	base string
}

func (p place) path() string { return joinPath(p.dir.Path(), p.base) }

func joinPath(dir, base string) string {
	if dir == "/" {
		return "/" + base
	}
	return dir + "/" + base
}

// entry applies an entry; if it is a file, a.file takes its content.
func (a *applier) entry(hdr *tar.Header) error {
	a.dirs.begin()
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := cleanName(hdr.Name, a.o.Strip)
	if err != nil || name == "" {
		return err
	}
	if a.o.Whiteouts && strings.Contains("/"+name, "/"+whiteoutPrefix) {
		return a.whiteout(name)
	}
	put := a.putter(hdr)
	if put == nil {
		a.skipped.add("/" + name)
		a.skip(hdr.Name, typeName(hdr.Typeflag))
		return nil
	}
	dir, base := splitName(name)
	d, err := a.open(dir, a.missing)
	if err != nil {
		return err
	}
	p := place{d, base}
	if a.o.Whiteouts {
		a.written.addWithParents(p.path())
	}
	a.stats.Entries++
	return put(p, hdr)
}

func (a *applier) putter(hdr *tar.Header) func(place, *tar.Header) error {
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return a.regular
	case tar.TypeDir:
		return a.directory
	case tar.TypeSymlink:
		return a.symlink
	case tar.TypeLink:
		return a.hardLink
	}
	return nil
}

func (a *applier) skip(name, reason string) {
	if a.o.OnSkip != nil {
		a.o.OnSkip(name, reason)
	}
}

func (a *applier) directory(p place, hdr *tar.Header) error {
	mode := headerMode(hdr)
	existed := false
	err := a.create(p, func() error {
		err := p.dir.Mkdir(p.base, mode.Perm()|ownerAccess)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		info, statErr := p.dir.Lstat(p.base)
		if statErr != nil || !info.Mode.IsDir() {
			return err
		}
		existed = true
		if info.Mode&ownerAccess == ownerAccess {
			return nil
		}
		return p.dir.Chmod(p.base, info.Mode|ownerAccess)
	})
	if err != nil {
		return err
	}
	if existed && a.o.Whiteouts { // the entry's attributes replace those it had (OCI layer.md, "Existing Files")
		clearXattrs(p)
	}
	if err := a.chown(p, hdr.Uid, hdr.Gid); err != nil {
		return err
	}
	a.o.eachXattr(hdr, func(attr string, value []byte) { _ = p.dir.SetXattr(p.base, attr, value) })
	a.pending[p.path()] = dirMeta{mode, hdr.ModTime}
	return nil
}

func (a *applier) symlink(p place, hdr *tar.Header) error {
	if err := a.create(p, func() error { return p.dir.Symlink(hdr.Linkname, p.base) }); err != nil {
		return err
	}
	if err := a.chown(p, hdr.Uid, hdr.Gid); err != nil {
		return err
	}
	return chtimes(p, hdr.ModTime)
}

// create calls put, again after what is in its way is gone: an entry of the same
// name, or the directory's mode.
func (a *applier) create(p place, put func() error) error {
	err := put()
	if errors.Is(err, unix.EACCES) && a.unlock(p.dir.Path()) {
		err = put()
	}
	if errors.Is(err, fs.ErrExist) {
		if err := a.remove(p); err != nil {
			return err
		}
		err = put()
	}
	return err
}

// remove removes whatever has the place's name, if anything.
func (a *applier) remove(p place) error {
	info, err := p.dir.Lstat(p.base)
	if errors.Is(err, unix.EACCES) && a.unlock(p.dir.Path()) {
		info, err = p.dir.Lstat(p.base)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode.IsDir() || info.Mode.Type() == fs.ModeSymlink {
		a.dirs.forget() // names may mean other directories now
	}
	err = p.dir.RemoveAll(p.base, rootfs.RemoveOptions{})
	if errors.Is(err, unix.EACCES) && a.unlock(p.dir.Path()) {
		err = p.dir.RemoveAll(p.base, rootfs.RemoveOptions{})
	}
	return err
}

// open gives a directory. Missing ones on the way are made by create, if given.
func (a *applier) open(name string, create func(d *rootfs.Dir, base string) error) (*rootfs.Dir, error) {
	d, err := a.dirs.open(name, create)
	if errors.Is(err, unix.EACCES) && a.unlock(name) {
		d, err = a.dirs.open(name, create)
	}
	return d, err
}

// missing creates a directory that has no entry, or had none yet.
func (a *applier) missing(d *rootfs.Dir, base string) error {
	err := d.Mkdir(base, 0o755)
	if errors.Is(err, unix.EACCES) && a.unlock(d.Path()) {
		err = d.Mkdir(base, 0o755)
	}
	if err == nil {
		a.pending[joinPath(d.Path(), base)] = dirMeta{mode: 0o755}
	}
	return err
}

// unlock gives us access to a directory whose mode, or that of one on the way to
// it, forbids it, for as long as the layer is being applied. It reports whether
// that changed anything.
func (a *applier) unlock(name string) (changed bool) {
	path, err := a.root.Resolve(name)
	if errors.Is(err, unix.EACCES) && name != "" {
		parent, _ := splitName(name)
		changed = a.unlock(parent)
		path, err = a.root.Resolve(name)
	}
	if err != nil || path == "/" {
		return changed
	}
	info, err := a.root.Lstat(path)
	if err != nil || !info.Mode.IsDir() || info.Mode&ownerAccess == ownerAccess {
		return changed
	}
	if a.root.Chmod(path, info.Mode|ownerAccess) != nil {
		return changed
	}
	if _, ok := a.pending[path]; !ok {
		a.pending[path] = dirMeta{mode: info.Mode}
	}
	return true
}

// finish gives directories their modes and times, inner ones first.
func (a *applier) finish(ctx context.Context) error {
	a.dirs.close()
	a.dirs = newDirCache(a.root.View(rootfs.NoLinks))
	for i, path := range slices.Backward(slices.Sorted(maps.Keys(a.pending))) {
		if i%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		a.dirs.begin()
		if err := a.finishDir(path); err != nil {
			return fmt.Errorf("set mode and time of %s: %w", quote(path), err)
		}
	}
	return nil
}

func (a *applier) finishDir(path string) error {
	dir, base := splitName(path[1:])
	d, err := a.dirs.open(dir, nil)
	if isReplaced(err) {
		return nil
	}
	if err != nil {
		return err
	}
	info, err := d.Lstat(base)
	if isReplaced(err) || err == nil && !info.Mode.IsDir() {
		return nil
	}
	if err != nil {
		return err
	}
	meta := a.pending[path]
	if info.Mode != meta.mode|fs.ModeDir {
		if err := d.Chmod(base, meta.mode); err != nil {
			return err
		}
	}
	if meta.mtime.IsZero() {
		return nil
	}
	return chtimes(place{d, base}, meta.mtime)
}

// isReplaced reports that a directory noted earlier has made way for something else.
func isReplaced(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, rootfs.ErrUnsafe)
}

// chtimes sets a time, unless it is beyond what this machine can say.
func chtimes(p place, mtime time.Time) error {
	err := p.dir.Chtimes(p.base, mtime)
	if errors.Is(err, unix.ERANGE) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}

// headerMode gives permissions and special bits.
func headerMode(hdr *tar.Header) fs.FileMode {
	return hdr.FileInfo().Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
}

// eachXattr calls set for those extended attributes of an entry that are kept: a
// user's, without what overlayfs notes about some other mount, and with owners a
// program's capabilities.
func (o Options) eachXattr(hdr *tar.Header, set func(attr string, value []byte)) {
	for key, value := range hdr.PAXRecords {
		attr, ok := strings.CutPrefix(key, xattrRecord)
		attr = fromKeyword.Replace(attr)
		if ok && isPacked(attr) && (attr != capability || o.Owners) {
			set(attr, []byte(value))
		}
	}
}
