package build

import (
	"context"
	"fmt"
	"path"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"proot-distro/internal/build/layout"
)

// workdir sets the working directory, and makes it where it is missing.
func (s *stage) workdir(ctx context.Context, c *instructions.WorkdirCommand, header string) error {
	s.lintWorkdir(c)
	dir := s.workdirOf(c.Path)
	s.img.Config.WorkingDir = dir
	if dir == "/" {
		s.Report.Infof("%s", header)
		s.remember("WORKDIR /", true)
		return nil
	}
	r := recipe{
		Parent: s.tree.chain(), Arch: s.arch, Step: "WORKDIR", Epoch: epochSeconds(s.req.Epoch), WorkDir: dir, User: s.img.Config.User,
	}
	return s.layerStep(header, r.key(), "WORKDIR "+dir, func() (stepEntry, error) { return s.makeWorkdir(ctx, dir) })
}

// makeWorkdir makes a layer with what is missing of a directory. It belongs to the user, as with
// BuildKit.
func (s *stage) makeWorkdir(ctx context.Context, dir string) (stepEntry, error) {
	root, err := s.tree.open(ctx)
	if err != nil {
		return stepEntry{}, err
	}
	if info, err := root.Stat(dir); err == nil && info.Mode.IsDir() {
		return s.outcome(), nil
	}
	who, err := s.chownOf(s.img.Config.User, root)
	if err != nil {
		return stepEntry{}, err
	}
	if who == nil {
		who = &layout.Owner{}
	}
	at, err := layout.Resolve(root, dir)
	if err != nil {
		return stepEntry{}, fmt.Errorf("WORKDIR %s: %w", dir, err)
	}
	d := &layout.Destination{Typed: dir, Path: dir, Root: root, Owners: &s.tree.owners}
	l := layout.Layout{}
	if err := d.Parents(l, path.Join(at, "x"), *who); err != nil {
		return stepEntry{}, err
	}
	return s.addLayout(ctx, l)
}
