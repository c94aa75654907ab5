package build

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"proot-distro/internal/compression"
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

	root    *rootfs.FS // nil until it is needed
	applied int        // of layers
	owners  owners
	stubs   stubs // mount points made for RUN

	seen     *layer.Tree // the tree as of now, if known
	seenSkip string      // what was left out of it
}

func newTree(s *session) *tree { return &tree{session: s, owners: owners{}} }

// fork gives an independent tree with the same layers.
func (t *tree) fork() *tree {
	c := newTree(t.session)
	c.layers = slices.Clone(t.layers)
	return c
}

// chain identifies the content: the chain ID of the OCI image specification.
func (t *tree) chain() digest.Digest {
	var chain digest.Digest
	for _, l := range t.layers {
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

// open gives the files, with every layer applied and without mount points of ours.
func (t *tree) open(ctx context.Context) (*rootfs.FS, error) {
	if err := t.unpack(ctx); err != nil {
		return nil, err
	}
	if len(t.stubs) > 0 {
		t.seen = nil
		if err := t.stubs.remove(t.root); err != nil {
			return nil, err
		}
		t.stubs = nil
	}
	return t.root, nil
}

// unpack applies the layers that are missing.
func (t *tree) unpack(ctx context.Context) (err error) {
	if t.root == nil {
		if t.root, err = t.session.scratch.tree("root"); err != nil {
			return err
		}
		t.session.closers = append(t.session.closers, t.root.Close)
	}
	for ; t.applied < len(t.layers); t.applied++ {
		t.seen = nil
		label := fmt.Sprintf("Extracting %d/%d", t.applied+1, len(t.layers))
		if err := t.apply(ctx, t.layers[t.applied].blob, label); err != nil {
			return fmt.Errorf("unpack layer %d of %d: %w", t.applied+1, len(t.layers), err)
		}
	}
	return nil
}

func (t *tree) apply(ctx context.Context, blob image.Blob, label string) error {
	stream, err := blob.Open()
	if err != nil {
		return err
	}
	defer stream.Close()
	meter := t.session.Report.Begin(report.Task{Label: label, Total: blob.Descriptor().Size})
	defer meter.Done()
	plain, err := compression.NewReader(metered{stream, meter})
	if err != nil {
		return err
	}
	defer plain.Close()
	learnt, wait := t.owners.tap(plain)
	_, err = layer.Apply(ctx, t.root, learnt, layer.Options{Whiteouts: true})
	wait()
	if err != nil && ctx.Err() == nil {
		if verdict := plain.Drain(); verdict != nil { // a wrong digest explains the rest
			return verdict
		}
	}
	if err == nil && os.Geteuid() == 0 {
		err = t.chown()
	}
	return err
}

// chown gives the files their owners where that is possible: for root, whose guests
// can be other users for the kernel too. Failures are the business of nobody: proot's guests need none of it.
func (t *tree) chown() error {
	for name, who := range t.owners {
		dir, base, err := t.root.Parent(name)
		if err != nil {
			continue
		}
		info, err := dir.Lstat(base)
		if err == nil && (info.UID != who.uid || info.GID != who.gid) {
			if unix.Fchownat(dir.Fd(), base, who.uid, who.gid, unix.AT_SYMLINK_NOFOLLOW) == nil && info.Mode.IsRegular() {
				_ = dir.Chmod(base, info.Mode) // chown(2) takes setuid bits away
			}
		}
		dir.Close()
	}
	return nil
}

// takeOver moves the files of a tree that nobody needs any more to one with the same layers.
func (t *tree) takeOver(from *tree) {
	if t.root != nil || from.root == nil {
		return
	}
	t.root, t.applied, t.owners, t.stubs = from.root, from.applied, from.owners, from.stubs
	t.seen, t.seenSkip = from.seen, from.seenSkip
	from.root, from.applied, from.owners, from.stubs, from.seen = nil, 0, owners{}, nil, nil
}

// drop deletes the files; they come back when they are needed again.
func (t *tree) drop() error {
	if t.root == nil {
		return nil
	}
	err := t.session.scratch.remove(t.root.Path())
	t.root, t.applied, t.owners, t.stubs, t.seen = nil, 0, owners{}, nil, nil
	return err
}

// snapshot gives the tree as it is, leaving out what skip names; id tells skips apart.
func (t *tree) snapshot(ctx context.Context, skip func(string) bool, id string) (*layer.Tree, error) {
	if t.seen != nil && t.seenSkip == id {
		return t.seen, nil
	}
	seen, err := layer.Snapshot(ctx, t.root, skip)
	if err != nil {
		return nil, fmt.Errorf("examine the stage's files: %w", err)
	}
	t.seen, t.seenSkip = seen, id
	return seen, nil
}

// metered counts what passes through it.
type metered struct {
	r     interface{ Read([]byte) (int, error) }
	meter report.Meter
}

func (m metered) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.meter.Add(int64(n))
	return n, err
}
