// Package layer applies filesystem layers, which are tar streams, to a root
// filesystem, and makes layers of what has changed in one.
//
// The stream and the tree are hostile. Everything is done through package rootfs,
// so nothing outside the tree is touched, whatever names and links say. An entry
// that cannot be applied ends the work with an error that names it.
//
// # What an entry does
//
// The parents of an entry are found as the guest would find them, through links
// that stay in the tree: with /bin a link to usr/bin, "bin/sh" lands in /usr/bin.
// Missing parents are created with mode 0755. The entry itself replaces what has
// its name, files and links without being written through or followed; a directory
// that meets a directory keeps the content, and one that meets a link to a directory
// replaces the link, as containerd and Docker do. The root's own entry is ignored:
// that directory belongs to the host.
//
// Modes are exact, with setuid, setgid and sticky bits and whatever the umask;
// all files belong to the caller, unless owners are asked for. Directories get their modes and times last, since
// it must be possible to fill them first. Of extended attributes, those of users are
// kept where the file system has them. Device nodes, FIFOs and sockets are skipped,
// and so are hard links to them. Where hard links are refused, as on Android, they
// become copies.
//
// # Whiteouts
//
// See https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts.
// A whiteout and an opaque marker hide what lower layers brought, and nothing that
// the same layer brings, whether before or after. Other names reserved with ".wh."
// are ignored.
//
// # Making layers
//
// [Snapshot] notes what lstat(2) tells of a tree, and [Diff] packs what differs later.
// No file is read to find that out, and none but the changed ones to pack them. Applying the layer
// to a copy of the earlier tree gives the later one, but for what layers cannot hold and for fractions
// of seconds. The stream depends on nothing but the tree: the same tree gives the same bytes everywhere.
// [DiffUpper] does the same for an overlay, where the upper directory tells what to look at.
//
// [Archive] packs a whole tree, for backups: with times to the nanosecond, owners if asked for, and holes.
package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"proot-distro/internal/rootfs"
)

// Options say how a tar stream is applied.
type Options struct {
	Whiteouts bool                      // it is an OCI layer: .wh. names delete
	Strip     int                       // leading components dropped from names, for plain tarballs
	Owners    bool                      // files get the owners that the archive names, and capabilities; takes root
	OnEntry   func(*tar.Header)         // each entry before it is applied, when not nil
	OnSkip    func(name, reason string) // each skipped entry, when not nil
}

// Stats counts what was done.
type Stats struct {
	Entries int   // applied, whiteouts included
	Bytes   int64 // of file contents
}

// Apply applies an uncompressed tar stream to a tree, and reads it to its end, so
// that the checksums that follow in a compressed one are verified too.
//
// It returns soon after ctx is done, provided that a Read of the stream under way
// returns. The tree is left half-done on any error. Errors of the tree have an
// [io/fs.PathError] in their chain; errors of the stream have none of ours.
func Apply(ctx context.Context, root *rootfs.FS, tarStream io.Reader, o Options) (Stats, error) {
	a := newApplier(root, o)
	defer a.close()
	err := stream(ctx, tarStream, func(p part) error { return entryError(p.hdr.Name, a.part(p)) }, a.finish)
	return a.stats, err
}

// stream calls apply with each part of a stream, and finish after the last.
func stream(ctx context.Context, tarStream io.Reader, apply func(part) error, finish func(context.Context) error) error {
	p := startParser(ctx, tarStream)
	err := work(ctx, p, apply)
	p.stop()
	if err == nil {
		err = finish(ctx)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// work calls apply with what the parser delivers.
func work(ctx context.Context, p *parser, apply func(part) error) error {
	for {
		b, err := p.next(ctx)
		if err != nil {
			return err
		}
		for _, part := range b.parts {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := apply(part); err != nil {
				return err
			}
		}
		if b.err == io.EOF {
			return nil
		}
		if b.err != nil {
			return b.err
		}
		p.recycle(b)
	}
}

func entryError(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("apply entry %s: %w", quote(name), err)
}

// part applies an entry, or continues the file that it is.
func (a *applier) part(p part) error {
	if p.first {
		a.file = nil
		if a.o.OnEntry != nil {
			a.o.OnEntry(p.hdr)
		}
		if err := a.entry(p.hdr); err != nil {
			return err
		}
	}
	if a.file == nil {
		return nil
	}
	err := a.file.write(p.data)
	a.stats.Bytes += int64(len(p.data))
	if err == nil && p.last {
		file := a.file
		a.file = nil
		err = file.finish()
	}
	return err
}

// maxPath is PATH_MAX, to which the guest is held as well.
const maxPath = 4096

// cleanName gives the name of an entry or of a hard link's target below the root,
// "usr/bin/sh": without the stripped components, "" for the root itself and for
// what lies above it.
func cleanName(name string, strip int) (string, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return "", errors.New("the name contains a NUL")
	}
	if len(name) >= maxPath {
		return "", fmt.Errorf("the name takes %d bytes: %w", len(name), unix.ENAMETOOLONG)
	}
	if strip == 0 && isClean(name) {
		return name, nil
	}
	parts := strings.FieldsFunc(name, func(r rune) bool { return r == '/' })
	kept := parts[:0]
	for _, part := range parts {
		if part == ".." {
			return "", errors.New(`the name contains ".."`) // in no honest archive
		}
		if part != "." {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept[min(strip, len(kept)):], "/"), nil
}

// isClean reports, for most names, that there is nothing to do.
func isClean(name string) bool {
	return name != "" && name[0] != '/' && name[0] != '.' && name[len(name)-1] != '/' &&
		!strings.Contains(name, "//") && !strings.Contains(name, "/.")
}

// splitName cuts a clean name into its directory and its last component.
func splitName(name string) (dir, base string) {
	i := strings.LastIndexByte(name, '/')
	return name[:max(i, 0)], name[i+1:]
}

// quote makes a stranger's name fit for a message.
func quote(name string) string {
	const limit = 200
	if len(name) > limit {
		return fmt.Sprintf("%q…", name[:limit])
	}
	return fmt.Sprintf("%q", name)
}

// typeName says what a skipped entry is.
func typeName(flag byte) string {
	switch flag {
	case tar.TypeChar, tar.TypeBlock:
		return "device node"
	case tar.TypeFifo:
		return "FIFO"
	}
	return fmt.Sprintf("entry of unknown type %q", flag)
}
