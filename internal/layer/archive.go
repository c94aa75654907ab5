package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/internal/rootfs"
)

// ArchiveOptions say how a tree is written into an archive.
type ArchiveOptions struct {
	Prefix  string            // of every name: "debian/rootfs"
	Owners  bool              // entries have the owners of their files; else all belong to root
	Records map[string]string // PAX records of the first entry, the root's; may be nil
	// Stream is what the archive is written into, past the tar.Writer where files have large holes: these are
	// left out of the archive. When it is nil, they are zeros in it.
	Stream  io.Writer
	OnScan  func(entries, bytes int64)   // once it is known how much there is; may be nil
	OnEntry func(path string, n int64)   // each entry, once written, with its content's bytes; may be nil
	OnSkip  func(path, reason string)    // what an archive does not hold, or could not be read; may be nil
	OnWarn  func(path, complaint string) // what is in the archive, but maybe not as it should; may be nil
}

// ArchiveStats counts what went into an archive.
type ArchiveStats struct {
	Entries    int
	Bytes      int64 // of file contents
	Unreadable int   // left out because they could not be read, or named
}

// Archive writes a whole tree into a tar archive, to be followed by other entries. Names of one
// file are hard links, and stand-ins of package l2s the files that they mean. Devices, FIFOs and
// sockets are left out, and so is what no path leads to, because it would be too long.
//
// Unlike [Diff] it goes on when the tree changes meanwhile: people back up containers that they
// are logged in to. Modes that forbid reading are put back.
func Archive(ctx context.Context, root *rootfs.FS, w *tar.Writer, o ArchiveOptions) (ArchiveStats, error) {
	tree, _, err := scan(ctx, root, nil)
	if err != nil {
		return ArchiveStats{}, err
	}
	info, err := root.Lstat("/")
	if err != nil {
		return ArchiveStats{}, err
	}
	diff := DiffOptions{}
	if o.Owners {
		diff.Owner = ownersOf(root.View(rootfs.NoLinks))
	}
	a := &archiver{packer: newPacker(ctx, root, w, diff), o: o, tree: tree}
	defer a.close()
	if o.OnScan != nil {
		o.OnScan(tree.sum())
	}
	first := &tar.Header{
		Typeflag: tar.TypeDir, Name: o.Prefix + "/", Mode: int64(info.Mode.Perm()), ModTime: info.MTime.Truncate(time.Second),
		PAXRecords: o.Records,
	}
	if o.Owners {
		first.Uid, first.Gid = info.UID, info.GID
	}
	err = w.WriteHeader(first)
	if err == nil {
		err = a.content("/", tree.root())
	}
	return a.written, errors.Join(err, a.restore())
}

// ownersOf looks up who owns an entry; one that is gone by now is left out anyway.
func ownersOf(root *rootfs.FS) func(path string) (uid, gid int) {
	return func(path string) (uid, gid int) {
		info, err := root.Lstat(path)
		if err != nil {
			return 0, 0
		}
		return info.UID, info.GID
	}
}

// sum counts entries and the bytes of files; the names of one file count as several.
func (t *Tree) sum() (entries, bytes int64) {
	for i := range t.nodes {
		if t.nodes[i].isFile() {
			bytes += t.nodes[i].size
		}
	}
	return int64(len(t.nodes) - 1), bytes
}

type archiver struct {
	*packer
	o       ArchiveOptions
	tree    *Tree
	written ArchiveStats
}

func (a *archiver) content(dir string, n *node) error {
	children := a.tree.children(n)
	for i := range children {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		child := &children[i]
		name := joinPath(dir, a.tree.name(child))
		if len(name) > maxPath { // and will be refused
			a.written.Unreadable++
			a.skip(change{path: name}, fmt.Sprintf("its path is longer than %d bytes", maxPath))
			continue
		}
		if err := a.entry(change{path: name, node: child}); err != nil {
			return fmt.Errorf("archive %s: %w", quote(name), err)
		}
		if child.isDir() {
			if err := a.content(name, child); err != nil {
				return err
			}
		}
	}
	return nil
}

// entry writes an entry; what is gone or closed by now is left out.
func (a *archiver) entry(c change) error {
	hdr := a.header(c)
	hdr.Name = a.o.Prefix + c.path
	hdr.ModTime = time.Unix(0, c.node.mtime)
	if hdr.ModTime.Nanosecond() != 0 {
		hdr.Format = tar.FormatPAX
	}
	var err error
	switch {
	case c.node.isDir():
		err = a.directory(c, hdr)
	case c.node.typ() == unix.S_IFLNK:
		err = a.symlink(c, hdr)
	case !c.node.isFile():
		a.skip(c, unfitReason(c.path, c.node))
		return nil
	case c.node.linked && a.links[c.node.inode()] != "":
		hdr.Typeflag, hdr.Linkname = tar.TypeLink, a.links[c.node.inode()]
		err = a.tar.WriteHeader(hdr)
	default:
		err = a.archiveFile(c, hdr)
	}
	switch {
	case errors.Is(err, ErrChanging), errors.Is(err, fs.ErrNotExist):
		a.skip(c, "it disappeared meanwhile")
		return nil
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		a.written.Unreadable++
		a.skip(c, "it cannot be read")
		return nil
	case err != nil:
		return err
	}
	a.written.Entries++
	if a.o.OnEntry != nil {
		size := int64(0)
		if c.node.isFile() {
			size = c.node.size
		}
		a.o.OnEntry(c.path, size)
	}
	return nil
}

func (a *archiver) skip(c change, reason string) {
	if a.o.OnSkip != nil {
		a.o.OnSkip(c.path, reason)
	}
}

// archiveFile writes a file with the size that it has now.
func (a *archiver) archiveFile(c change, hdr *tar.Header) error {
	f, err := a.openFile(c)
	if err != nil {
		return changing(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	hdr.Typeflag, hdr.Size = tar.TypeReg, info.Size()
	hdr.PAXRecords = paxXattrs(fileXattrs(f))
	if c.node.linked {
		a.links[c.node.inode()] = hdr.Name
	}
	a.written.Bytes += hdr.Size
	if a.o.Stream != nil {
		if data := extentsOf(f, hdr.Size, maxExtents); data != nil {
			return a.sparseFile(c, f, hdr, data)
		}
	}
	if err := a.tar.WriteHeader(hdr); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return a.wholeContent(a.tar, c, f, hdr.Size)
}

// wholeContent copies size bytes, of which a file that has become shorter lacks the last.
func (a *archiver) wholeContent(w io.Writer, c change, f *os.File, size int64) error {
	left, err := a.packer.content(w, f, size)
	if !errors.Is(err, ErrChanging) {
		return err
	}
	if a.o.OnWarn != nil {
		a.o.OnWarn(c.path, "it became shorter while it was read; the rest is zeros")
	}
	for left > 0 {
		n, err := w.Write(zeros[:min(left, int64(len(zeros)))])
		if err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}
