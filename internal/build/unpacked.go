package build

import (
	"context"
	"fmt"
	"io"

	"proot-distro/internal/layer"
	"proot-distro/internal/rootfs"
)

// unpacked are files in a scratch directory, in which everything happens: layers are applied, commands run, and what
// they did is found by comparing. It works everywhere.
type unpacked struct {
	tree    *tree
	root    *rootfs.FS // nil until it is needed
	applied int        // of layers
	points  stubs      // of our own binds; they stay for the next RUN

	before   *layer.Tree // a RUN
	seen     *layer.Tree // the tree as of now, if known
	seenSkip string      // what was left out of it
}

func (u *unpacked) stubs() *stubs { return &u.points }

func (u *unpacked) open(ctx context.Context) (*rootfs.FS, error) {
	if _, err := u.begin(ctx); err != nil {
		return nil, err
	}
	if len(u.points) > 0 {
		u.seen = nil
		if err := u.points.remove(u.root); err != nil {
			return nil, err
		}
		u.points = nil
	}
	return u.root, nil
}

func (u *unpacked) begin(ctx context.Context) (_ *rootfs.FS, err error) {
	t := u.tree
	if u.root == nil {
		if u.root, err = t.session.scratch.tree("root"); err != nil {
			return nil, err
		}
	}
	for ; u.applied < len(t.layers); u.applied++ {
		u.seen = nil
		if _, err := t.apply(ctx, u.root, u.applied); err != nil {
			return nil, err
		}
	}
	return u.root, nil
}

func (u *unpacked) mark(ctx context.Context, place *mounted) (err error) {
	if u.seen == nil || u.seenSkip != place.id() {
		if u.seen, err = layer.Snapshot(ctx, u.root, place.skip); err != nil {
			return fmt.Errorf("examine the stage's files: %w", err)
		}
		u.seenSkip = place.id()
	}
	u.before, u.seen = u.seen, nil
	return nil
}

func (u *unpacked) had(name string) bool { return u.before.Has(name) }

func (u *unpacked) diff(ctx context.Context, w io.Writer, place *mounted, o layer.DiffOptions) (layer.DiffStats, error) {
	stats, err := layer.Diff(ctx, u.root, u.before, w, o)
	if err == nil && len(place.stubs) == 0 { // else some are going to be removed
		u.seen, u.seenSkip = stats.After, place.id()
	}
	return stats, err
}

func (u *unpacked) keep(top *builtLayer, _ int64) error {
	if top != nil {
		u.applied++
	}
	return nil
}
