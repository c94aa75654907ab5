package layout

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

// File is an entry on its way into a layer.
type File struct {
	path  string      // below its batch's root; in the image once it is placed
	Mode  fs.FileMode // type and permissions
	Size  int64       // of a regular file, in bytes
	MTime time.Time
	Times bool   // MTime means something
	link  string // target of a symbolic link
	owner Owner

	Root  *rootfs.FS // holds the content, or else
	Name  string     // of the content in Root
	Data  []byte
	inode [2]uint64 // device and number, where a file has several names
}

// Open opens the content.
func (f *File) Open() (io.ReadCloser, error) {
	if f.Root == nil {
		return io.NopCloser(strings.NewReader(string(f.Data))), nil
	}
	return f.Root.Open(f.Name)
}

// Batch is what one source of a COPY brings.
type Batch struct {
	Name  string // the last component, which a file keeps in a directory
	IsDir bool   // its content is copied; the entry "" is a new directory for it
	Into  bool   // the destination is a directory for certain: --parents
	files []File
}

// Single is a batch of one regular file; name is the one that it keeps in a directory.
func Single(name string, f File) *Batch { return &Batch{Name: name, files: []File{f}} }

// Empty reports whether there is nothing to copy.
func (b *Batch) Empty() bool { return len(b.files) == 0 }

// File is the only file of a batch, or nil.
func (b *Batch) File() *File {
	if b.IsDir || len(b.files) != 1 {
		return nil
	}
	return &b.files[0]
}

// SetOwner gives all to one owner.
func (b *Batch) SetOwner(who Owner) {
	for i := range b.files {
		b.files[i].owner = who
	}
}

// Chmod changes the modes of all but links.
func (b *Batch) Chmod(change Chmod) {
	for i := range b.files {
		if f := &b.files[i]; f.Mode&fs.ModeSymlink == 0 {
			f.Mode = change(f.Mode)
		}
	}
}

// Digest is over what a batch brings, and not over its times: names, types, modes,
// owners, link targets, contents.
func (b *Batch) Digest(ctx context.Context) (string, error) {
	sum := sha256.New()
	buf := make([]byte, 256<<10)
	fmt.Fprintf(sum, "batch %q %t %t\n", b.Name, b.IsDir, b.Into)
	for i := range b.files {
		f := &b.files[i]
		if err := ctx.Err(); err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%q %o %q %d:%d %d\n", f.path, f.Mode, f.link, f.owner.UID, f.owner.GID, f.contentSize())
		if !f.Mode.IsRegular() {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return "", f.Failed(err)
		}
		_, err = io.CopyBuffer(sum, struct{ io.Reader }{r}, buf)
		if err = errors.Join(err, r.Close()); err != nil {
			return "", f.Failed(err)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func (f *File) contentSize() int64 {
	if f.Mode.IsRegular() {
		return f.Size
	}
	return 0
}

// Failed explains why the content could not be read.
func (f *File) Failed(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%s may not be read: change its permissions, or exclude it in .dockerignore", f.Name)
	}
	return fmt.Errorf("read %s: %w", f.Name, report.Cause(err))
}
