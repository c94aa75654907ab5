package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"proot-distro/internal/rootfs"
)

// holeSize is from where on files may have had holes, which most archives hold as zeros.
const holeSize = 1 << 20

// fileWriter is a regular file being written.
type fileWriter struct {
	place
	f      *os.File
	hdr    *tar.Header
	o      Options
	sparse bool // zeros are left as holes
}

func (a *applier) regular(p place, hdr *tar.Header) error {
	perm := headerMode(hdr).Perm()
	a.o.eachXattr(hdr, func(string, []byte) { perm |= 0o600 }) // to set them takes writing
	var f *os.File
	err := a.create(p, func() (err error) {
		f, err = p.dir.Create(p.base, perm)
		return err
	})
	if err != nil {
		return err
	}
	a.file = &fileWriter{place: p, f: f, hdr: hdr, o: a.o, sparse: isSparse(hdr) || hdr.Size >= holeSize}
	return nil
}

func (w *fileWriter) write(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	if w.sparse && isZero(data) {
		_, err := w.f.Seek(int64(len(data)), io.SeekCurrent)
		return err
	}
	_, err := w.f.Write(data)
	return err
}

var zeros [4096]byte

func isZero(data []byte) bool {
	for len(data) > len(zeros) {
		if !bytes.Equal(data[:len(zeros)], zeros[:]) {
			return false
		}
		data = data[len(zeros):]
	}
	return bytes.Equal(data, zeros[:len(data)])
}

// finish sets what is known about the file, and closes it. Its mode comes after
// its content, since writing takes setuid away.
func (w *fileWriter) finish() error {
	err := w.setMeta()
	if closeErr := w.f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return chtimes(w.place, w.hdr.ModTime)
}

func (w *fileWriter) setMeta() error {
	if w.sparse {
		if err := w.f.Truncate(w.hdr.Size); err != nil {
			return err
		}
	}
	if w.o.Owners { // first, since it takes setuid and capabilities away
		if err := chownFile(w.f, w.hdr.Uid, w.hdr.Gid); err != nil {
			return err
		}
	}
	info, err := w.f.Stat()
	if err != nil {
		return err
	}
	w.o.eachXattr(w.hdr, func(attr string, value []byte) { _ = unix.Fsetxattr(int(w.f.Fd()), attr, value, 0) })
	if mode := headerMode(w.hdr); info.Mode() != mode {
		return w.f.Chmod(mode)
	}
	return nil
}

// hardLink gives an earlier entry, of this layer or a lower one, another name.
func (a *applier) hardLink(p place, hdr *tar.Header) error {
	name, err := cleanName(hdr.Linkname, a.o.Strip)
	if err == nil && name == "" {
		err = errors.New("the root cannot be linked")
	}
	if err != nil {
		return fmt.Errorf("hard link to %s: %w", quote(hdr.Linkname), err)
	}
	if a.skipped.has("/" + name) {
		a.skipped.add(p.path())
		a.stats.Entries--
		a.skip(hdr.Name, "hard link to a skipped entry")
		return nil
	}
	dir, base := splitName(name)
	d, err := a.open(dir, nil)
	if err == nil {
		err = a.linkTo(p, place{d, base})
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("hard link to %s, which does not exist: %w", quote(hdr.Linkname), err)
	}
	return err
}

func (a *applier) linkTo(p, target place) error {
	info, err := target.dir.Lstat(target.base)
	if err != nil {
		return err
	}
	if !info.Mode.IsRegular() && info.Mode.Type() != fs.ModeSymlink {
		return fmt.Errorf("hard link to %s, which is neither a file nor a symbolic link", quote(target.path()))
	}
	if there, err := p.dir.Lstat(p.base); err == nil && there.Ino == info.Ino && there.Dev == info.Dev {
		return nil // a name of it already, maybe its only one
	}
	err = a.create(p, func() error { return target.dir.Link(target.base, p.dir, p.base) })
	if !linkRefused(err) {
		return err
	}
	if info.Mode.Type() == fs.ModeSymlink {
		return a.copySymlink(p, target, info)
	}
	return a.copyFile(p, target, info)
}

// linkRefused tells the errors by which hard links are forbidden here (Android) or
// impossible, in general or for this file.
func linkRefused(err error) bool {
	for _, refusal := range []error{unix.EACCES, unix.EPERM, unix.EXDEV, unix.EMLINK, unix.EOPNOTSUPP, unix.ENOSYS} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

func (a *applier) copySymlink(p, target place, info rootfs.Info) error {
	to, err := target.dir.Readlink(target.base)
	if err == nil {
		err = a.create(p, func() error { return p.dir.Symlink(to, p.base) })
	}
	if err == nil {
		err = a.chown(p, info.UID, info.GID)
	}
	if err != nil {
		return err
	}
	return chtimes(p, info.MTime)
}

func (a *applier) copyFile(p, target place, info rootfs.Info) error {
	src, err := target.dir.Open(target.base)
	if errors.Is(err, unix.EACCES) && target.dir.Chmod(target.base, info.Mode|0o400) == nil {
		src, err = target.dir.Open(target.base)
		defer func() { _ = target.dir.Chmod(target.base, info.Mode) }()
	}
	if err != nil {
		return err
	}
	defer src.Close()
	var dst *os.File
	err = a.create(p, func() (err error) {
		dst, err = p.dir.Create(p.base, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	// Plain reads and writes: copy_file_range(2), which os.File would use, may be
	// deadly on Android.
	_, err = io.Copy(struct{ io.Writer }{dst}, struct{ io.Reader }{src})
	if err == nil {
		err = a.chown(p, info.UID, info.GID)
	}
	if err == nil {
		err = dst.Chmod(info.Mode)
	}
	if closeErr := dst.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return chtimes(p, info.MTime)
}
