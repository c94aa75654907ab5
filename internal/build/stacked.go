package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"

	"proot-distro/internal/build/layout"
	"proot-distro/internal/image"
	"proot-distro/internal/layer"
	"proot-distro/internal/overlay"
	"proot-distro/internal/rootfs"
)

// stacked are files in directories over one another: trees of the image cache, the lowest with all of a base
// image, others with what one or several layers change. They are made once and never written to; a command works in a new
// directory on top, which is all that has to be looked at afterwards, and which becomes a tree of the cache itself.
type stacked struct {
	tree    *tree
	trees   []*rootfs.FS    // the lowest first
	chains  []digest.Digest // of trees
	applied int             // layers that are in trees
	points  stubs

	view *mountedStack // of trees, to be read
	work *mountedStack // with a new directory on top, for a RUN
	top  *image.NewTree
}

// maxTrees bounds the height of a stack; then all layers are unpacked into one directory.
const maxTrees = overlay.MaxLower - 1

// tryStacks finds out by trial whether trees can be stacked where they lie.
func (s *session) tryStacks() bool {
	if !s.MayMount {
		return false
	}
	t, err := s.Cache.NewTree()
	if err == nil {
		err = errors.Join(overlay.Probe(t.Files), t.Close())
	}
	if err != nil {
		s.Report.Detailf("Layers are unpacked for this build alone: %v", err)
	}
	return err == nil
}

func newStacked(t *tree) *stacked {
	k := &stacked{tree: t}
	t.session.closers = append(t.session.closers, k.forget)
	return k
}

func (k *stacked) stubs() *stubs { return &k.points }

func (k *stacked) open(ctx context.Context) (*rootfs.FS, error) {
	if err := k.update(ctx); err != nil {
		return nil, err
	}
	if k.view == nil {
		view, err := k.tree.session.mountStack(k.trees, nil)
		if err != nil {
			return nil, err
		}
		k.view = view
	}
	return k.view.root, nil
}

func (k *stacked) begin(ctx context.Context) (*rootfs.FS, error) {
	if err := errors.Join(k.discard(), k.update(ctx)); err != nil {
		return nil, err
	}
	if err := k.grow(); err != nil {
		return nil, err
	}
	return k.work.root, nil
}

// mark has nothing to note: the new directory is empty.
func (k *stacked) mark(ctx context.Context, _ *mounted) error {
	_, err := k.open(ctx)
	return err
}

func (k *stacked) had(name string) bool {
	_, err := k.view.root.View(rootfs.NoLinks).Lstat(name)
	return err == nil
}

func (k *stacked) diff(ctx context.Context, w io.Writer, place *mounted, o layer.DiffOptions) (layer.DiffStats, error) {
	if err := errors.Join(place.stubs.remove(k.work.root), k.points.remove(k.work.root)); err != nil {
		return layer.DiffStats{}, err
	}
	k.points = nil
	return layer.DiffUpper(ctx, k.top.Files, k.view.root, w, o)
}

func (k *stacked) keep(top *builtLayer, size int64) error {
	if top == nil || len(k.trees) >= maxTrees {
		return k.discard()
	}
	return k.commit(len(k.tree.layers)+1, append(slices.Clone(k.tree.layers), *top), size)
}

// update has all layers in trees.
func (k *stacked) update(ctx context.Context) error {
	t := k.tree
	if k.applied == len(t.layers) {
		return nil
	}
	if len(k.trees) == 0 {
		if err := k.find(); err != nil {
			return err
		}
	}
	if len(k.trees) == 0 && 0 < t.base && t.base < len(t.layers) { // others may be based on it
		if err := k.unpack(ctx, t.base); err != nil {
			return err
		}
	}
	if k.applied == len(t.layers) {
		return nil
	}
	if len(k.trees) >= maxTrees { // all into one
		if err := k.forget(); err != nil {
			return err
		}
	}
	return k.unpack(ctx, len(t.layers))
}

// find takes the highest tree of the cache.
func (k *stacked) find() error {
	t := k.tree
	for n := len(t.layers); n > 0; n-- {
		trees, chains, notes, err := t.session.findTrees(chainOf(t.layers[:n]))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		k.trees, k.chains, k.applied = trees, chains, n
		t.owners = *notes
		return k.release(&k.view) // of nothing
	}
	return nil
}

// findTrees opens a tree of the cache and those below it.
func (s *session) findTrees(chain digest.Digest) (trees []*rootfs.FS, chains []digest.Digest, who *layout.Owners, err error) {
	defer func() {
		if err != nil {
			for _, tree := range trees {
				err = errors.Join(err, tree.Close())
			}
		}
	}()
	for chain != "" {
		info, files, err := s.Cache.FindTree(chain)
		if err != nil {
			return trees, nil, nil, err
		}
		trees, chains = append(trees, files), append(chains, chain)
		if who == nil {
			who = &layout.Owners{}
			if err = json.Unmarshal(info.Notes, who); err != nil {
				return trees, nil, nil, fmt.Errorf("%w (%w)", err, fs.ErrNotExist) // made anew
			}
		}
		if len(trees) > maxTrees {
			return trees, nil, nil, fs.ErrNotExist
		}
		chain = info.Below
	}
	slices.Reverse(trees)
	slices.Reverse(chains)
	return trees, chains, who, nil
}

// unpack makes a tree of the layers up to n that are in none yet.
func (k *stacked) unpack(ctx context.Context, n int) error {
	if err := k.grow(); err != nil {
		return err
	}
	var size int64
	for i := k.applied; i < n; i++ {
		stats, err := k.tree.apply(ctx, k.work.root, i)
		if err != nil {
			return errors.Join(err, k.discard())
		}
		size += onDisk(stats.Bytes, stats.Entries)
	}
	return k.commit(n, k.tree.layers[:n], size)
}

// onDisk estimates what entries take.
func onDisk(content int64, entries int) int64 { return content + int64(entries)<<12 }

// grow puts a new directory on top.
func (k *stacked) grow() (err error) {
	if k.top, err = k.tree.session.Cache.NewTree(); err != nil {
		return err
	}
	if k.work, err = k.tree.session.mountStack(k.trees, k.top); err != nil {
		return errors.Join(err, k.discard())
	}
	return nil
}

// commit makes the directory on top the tree of layers.
func (k *stacked) commit(n int, layers []builtLayer, size int64) (err error) {
	defer func() { err = errors.Join(err, k.discard()) }()
	if err := k.release(&k.work); err != nil {
		return err
	}
	info := image.TreeInfo{Size: size}
	if len(k.chains) > 0 {
		info.Below = k.chains[len(k.chains)-1]
	}
	for _, l := range layers {
		info.Layers = append(info.Layers, l.blob.Descriptor().Digest)
	}
	if info.Notes, err = json.Marshal(&k.tree.owners); err != nil {
		return err
	}
	chain := chainOf(layers)
	if err := k.top.Commit(chain, info); err != nil {
		return err
	}
	if err := k.release(&k.view); err != nil {
		return err
	}
	_, files, err := k.tree.session.Cache.FindTree(chain)
	if err != nil {
		return err
	}
	k.trees, k.chains, k.applied = append(k.trees, files), append(k.chains, chain), n
	return nil
}

// discard forgets the directory on top.
func (k *stacked) discard() error {
	k.points = nil
	err := k.release(&k.work)
	if k.top != nil {
		err = errors.Join(err, k.top.Close())
		k.top = nil
	}
	return err
}

// forget begins anew.
func (k *stacked) forget() error {
	err := errors.Join(k.discard(), k.release(&k.view))
	for _, tree := range k.trees {
		err = errors.Join(err, tree.Close())
	}
	k.trees, k.chains, k.applied, k.tree.owners = nil, nil, 0, layout.Owners{}
	return err
}

func (k *stacked) release(m **mountedStack) error {
	if *m == nil {
		return nil
	}
	err := (*m).close()
	*m = nil
	return err
}

// mountedStack is a stack that can be seen.
type mountedStack struct {
	root  *rootfs.FS
	close func() error
}

// mountStack makes trees, the lowest first, visible as one, with a new one on top that takes all changes, if there is one.
func (s *session) mountStack(trees []*rootfs.FS, top *image.NewTree) (_ *mountedStack, err error) {
	if top == nil && len(trees) == 1 {
		return &mountedStack{trees[0].View(rootfs.GuestLinks), func() error { return nil }}, nil
	}
	if top != nil && len(trees) == 0 {
		return &mountedStack{top.Files.View(rootfs.GuestLinks), func() error { return nil }}, nil
	}
	at, err := s.scratch.dir("root")
	if err != nil {
		return nil, err
	}
	if len(trees) == 0 { // nothing over nothing
		root, err := rootfs.Open(at, rootfs.GuestLinks)
		if err != nil {
			return nil, err
		}
		return &mountedStack{root, root.Close}, nil
	}
	var stack overlay.Stack
	open := func(tree *rootfs.FS) *rootfs.Dir {
		dir, openErr := tree.OpenDir("/")
		if openErr != nil {
			err = errors.Join(err, openErr)
			return nil
		}
		return dir
	}
	for _, tree := range slices.Backward(trees) {
		stack.Lower = append(stack.Lower, open(tree))
	}
	if top != nil {
		stack.Upper, stack.Work = open(top.Files), open(top.Work)
	}
	defer func() {
		for _, dir := range append(stack.Lower, stack.Upper, stack.Work) {
			if dir != nil {
				dir.Close()
			}
		}
	}()
	if err != nil {
		return nil, err
	}
	if err := overlay.Mount(stack, at); err != nil {
		return nil, fmt.Errorf("lay %d trees over one another: %w", len(trees), err)
	}
	root, err := rootfs.Open(at, rootfs.GuestLinks)
	if err != nil {
		return nil, errors.Join(err, overlay.Unmount(at))
	}
	return &mountedStack{root, func() error {
		return errors.Join(root.Close(), overlay.Unmount(at), s.scratch.remove(at))
	}}, nil
}
