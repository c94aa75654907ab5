package transfer

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"proot-distro/internal/rootfs"
)

// CloneOptions are the options of [Clone].
type CloneOptions struct {
	Options
	// NewRoot is the host path where the new root filesystem will be found when
	// everything is done: its stand-ins lead there.
	NewRoot string
}

// Clone fills an empty root filesystem, that nobody uses yet, with all that is in
// another: hard links, extended attributes and, as root, owners too. Entries closed to
// their owner are opened for a moment.
func Clone(ctx context.Context, from, to End, o CloneOptions) (Result, error) {
	from.Path, to.Path = "/", "/"
	s, err := find(from, true)
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	d, err := find(to, true)
	if err != nil {
		return Result{}, err
	}
	defer d.close()
	p := begin(ctx, from, to, rules{verb: "copied", faithful: true, relink: relinker(from.Root, o.NewRoot)}, o.Options)
	p.progress("Cloning "+from.Container, s, o.Options)
	n := &node{src: s.dir, dst: d.dir, fresh: true, attrs: true, final: s.info, old: d.info}
	n.shares.Store(1)
	p.attributes(n)
	p.walk(n)
	return p.end()
}

// hardLink makes another name of a file that was copied before, or copies it at
// once.
func (p *pass) hardLink(j job, id inode) {
	first, known := p.inodes[id]
	if !known {
		first = copied{path: path.Join(j.n.dst.Path(), j.to)}
		if j.n.closed {
			first.n = j.n
			j.n.shares.Add(1)
		}
		p.inodes[id] = first
		if p.buf == nil {
			p.buf = make([]byte, fileSize)
		}
		p.file(j, p.buf)
		return
	}
	if err := p.linkTo(first, j); err != nil {
		p.enqueue(j) // Android forbids hard links; others limit their number
		return
	}
	p.copied.Add(1)
	p.report.Detailf("%s %s", p.verb, p.from.at(path.Join(j.n.src.Path(), j.name)))
}

// copied is where a file with several names was copied to.
type copied struct {
	path string
	n    *node // its directory, kept open and accessible where a path will not lead there any more
}

func (p *pass) linkTo(first copied, j job) error {
	if first.n != nil {
		return first.n.dst.Link(path.Base(first.path), j.n.dst, j.to)
	}
	dir, base, err := p.to.Root.View(rootfs.NoLinks).Parent(first.path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Link(base, j.n.dst, j.to)
}

// attributes keeps what a directory has beside mode and time.
func (p *pass) attributes(n *node) {
	if !p.faithful {
		return
	}
	p.keepOwner(n.dst.Fd(), ".", n.final)
	in, err := openDir(n.src)
	if err != nil {
		return // the walk will tell
	}
	defer unix.Close(in)
	if out, err := openDir(n.dst); err == nil {
		keepAttributes(in, out)
		unix.Close(out)
	}
}

func openDir(d *rootfs.Dir) (fd int, err error) {
	return retry(func() (int, error) {
		return unix.Openat(d.Fd(), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
}

// keepOwner gives an entry the owner of its original, which takes root.
func (p *pass) keepOwner(dir int, name string, info rootfs.Info) {
	if p.uid == 0 && (info.UID != 0 || info.GID != 0) {
		_ = unix.Fchownat(dir, name, info.UID, info.GID, unix.AT_SYMLINK_NOFOLLOW) // refused in a user namespace
	}
}

const maxAttributes = 64 << 10 // XATTR_LIST_MAX and XATTR_SIZE_MAX of Linux

// keepAttributes copies a person's extended attributes and capabilities, as far
// as the file system and our rights go.
func keepAttributes(from, to int) {
	var small [256]byte
	names := small[:]
	n, err := unix.Flistxattr(from, names)
	if errors.Is(err, unix.ERANGE) {
		names = make([]byte, maxAttributes)
		n, err = unix.Flistxattr(from, names)
	}
	if err != nil || n == 0 {
		return
	}
	value := make([]byte, maxAttributes)
	for _, name := range slices.Sorted(strings.SplitSeq(strings.TrimRight(string(names[:n]), "\x00"), "\x00")) {
		if !strings.HasPrefix(name, "user.") && name != "security.capability" {
			continue
		}
		if n, err := unix.Fgetxattr(from, name, value); err == nil {
			_ = unix.Fsetxattr(to, name, value[:n], 0) // capabilities take root
		}
	}
}
