package build

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"proot-distro/internal/build/layout"
	"proot-distro/internal/image"
	"proot-distro/internal/layer"
	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

// builtLayer is a layer of a stage.
type builtLayer struct {
	blob   image.Blob
	diffID digest.Digest
}

// tree is a stage's root filesystem: its layers, and on demand its files.
type tree struct {
	session *session
	layers  []builtLayer
	base    int // how many of them are an image's that others are likely to be based on

	files  files // nil until they are needed
	owners layout.Owners
}

// files are a tree's files on disk. There are two ways: [stacked] where overlays can be mounted, else [unpacked].
type files interface {
	// open gives the files with every layer applied, and without mount points of ours. Nobody may write to them.
	open(ctx context.Context) (*rootfs.FS, error)
	// begin is open for a RUN. What it changes is what diff finds, or is lost if that is not called.
	begin(ctx context.Context) (*rootfs.FS, error)
	// stubs are the mount points for our own binds that are in the files.
	stubs() *stubs
	// mark notes how the files are before the command runs, but for what place has brought.
	mark(ctx context.Context, place *mounted) error
	// had reports whether there was an entry of that name then.
	had(name string) bool
	// diff writes a layer of what has changed since.
	diff(ctx context.Context, w io.Writer, place *mounted, o layer.DiffOptions) (layer.DiffStats, error)
	// keep tells what became of a diff: the layer on top, of so many bytes, which the files have already, or
	// none.
	keep(top *builtLayer, size int64) error
}

func newTree(s *session) *tree { return &tree{session: s} }

// fork gives an independent tree with the same layers.
func (t *tree) fork() *tree {
	c := newTree(t.session)
	c.layers, c.base = slices.Clone(t.layers), t.base
	return c
}

// chain identifies the content: the chain ID of the OCI image specification.
func (t *tree) chain() digest.Digest { return chainOf(t.layers) }

func chainOf(layers []builtLayer) (chain digest.Digest) {
	for _, l := range layers {
		if chain == "" {
			chain = l.diffID
			continue
		}
		chain = digest.FromString(chain.String() + " " + l.diffID.String())
	}
	return chain
}

// add puts a layer on top that is not in the files yet.
func (t *tree) add(l builtLayer) { t.layers = append(t.layers, l) }

// disk gives the tree files.
func (t *tree) disk() files {
	switch {
	case t.files != nil:
	case t.session.stacks():
		t.files = newStacked(t)
	default:
		t.files = &unpacked{tree: t}
	}
	return t.files
}

// open gives the files, with every layer applied and without mount points of ours, to be read.
func (t *tree) open(ctx context.Context) (*rootfs.FS, error) { return t.disk().open(ctx) }

// takeOver moves the files of a tree that nobody needs any more to one with the same layers.
func (t *tree) takeOver(from *tree) {
	f, ok := from.files.(*unpacked)
	if !ok { // the others' are in the cache
		return
	}
	t.files, t.owners = f, from.owners
	f.tree = t
	from.files, from.owners = nil, layout.Owners{}
}

// apply applies layer i to files.
func (t *tree) apply(ctx context.Context, root *rootfs.FS, i int) (layer.Stats, error) {
	label := fmt.Sprintf("Extracting %d/%d", i+1, len(t.layers))
	stats, err := t.applyBlob(ctx, root, t.layers[i].blob, label)
	if err != nil {
		return stats, fmt.Errorf("unpack layer %d of %d: %w", i+1, len(t.layers), err)
	}
	return stats, nil
}

func (t *tree) applyBlob(ctx context.Context, root *rootfs.FS, blob image.Blob, label string) (stats layer.Stats, err error) {
	stream, err := blob.Open()
	if err != nil {
		return stats, err
	}
	defer stream.Close()
	meter := t.session.Report.Begin(report.Task{Label: label, Total: blob.Descriptor().Size})
	defer meter.Done()
	stats, err = layer.Unpack(ctx, root, report.Reader(stream, meter), layer.Options{Whiteouts: true, OnEntry: t.owners.Learn})
	if err == nil && t.session.AllIDs {
		t.chown(root)
	}
	return stats, err
}

// chown gives the files their owners. Where IDs do not exist, in a user namespace, the table alone tells of them.
func (t *tree) chown(root *rootfs.FS) {
	for name, who := range t.owners.All() {
		dir, base, err := root.View(rootfs.GuestLinks).Parent(name)
		if err != nil {
			continue
		}
		info, err := dir.Lstat(base)
		if err == nil && (info.UID != who.UID || info.GID != who.GID) {
			if unix.Fchownat(dir.Fd(), base, who.UID, who.GID, unix.AT_SYMLINK_NOFOLLOW) == nil && info.Mode.IsRegular() {
				_ = dir.Chmod(base, info.Mode) // chown(2) takes setuid bits away
			}
		}
		dir.Close()
	}
}
