package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"proot-distro/internal/build/layout"
	"proot-distro/internal/dockerfile"
	"proot-distro/internal/l2s"
	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

// contextSource opens the build context.
func (s *session) contextSource() (*layout.Source, error) {
	if s.context != nil {
		return s.context, nil
	}
	src, err := s.hostSource(s.req.Context, "the build context")
	if err != nil {
		return nil, err
	}
	src.Ignore = s.req.Ignore
	s.context = src
	return src, nil
}

// newSource completes a source.
func (s *session) newSource(src layout.Source) *layout.Source {
	src.OnSkip = func(name, reason string) { s.Report.Detailf("%s in %s is left out: %s", name, src.What, reason) }
	return &src
}

// hostSource opens a directory of the host. Links in it lead to places in it.
func (s *session) hostSource(dir, what string) (*layout.Source, error) {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = errors.New("it is not a directory")
	}
	var root *rootfs.FS
	if err == nil {
		root, err = rootfs.Open(dir, rootfs.GuestLinks)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot use %s as %s: %w", dir, what, report.Cause(err))
	}
	s.closers = append(s.closers, root.Close)
	return s.newSource(layout.Source{Root: root, What: what, Host: true}), nil
}

// origin is where --from and a mount's from lead to.
type origin struct {
	tree *tree // of a stage or an image, or else
	dir  *layout.Source
	what string
}

// origin finds what a name stands for: --build-context, a stage, an image.
func (s *stage) origin(ctx context.Context, name string) (origin, error) {
	if where, ok := s.req.Contexts[name]; ok {
		if ref, isImage := strings.CutPrefix(where, imageScheme); isImage {
			t, err := s.imageTree(ctx, ref, s.arch)
			return origin{tree: t, what: "image " + ref}, err
		}
		src := s.named[name]
		if src == nil {
			var err error
			if src, err = s.hostSource(where, "--build-context "+name); err != nil {
				return origin{}, err
			}
			s.named[name] = src
		}
		return origin{dir: src, what: src.What}, nil
	}
	def, err := s.file.Stage(name)
	if err != nil {
		return origin{}, err
	}
	if def != nil {
		from, err := s.stage(ctx, def)
		if err != nil {
			return origin{}, err
		}
		return origin{tree: from.tree, what: "stage " + def.Name}, nil
	}
	if strings.EqualFold(name, dockerfile.Scratch) {
		return origin{tree: newTree(s.session), what: "scratch"}, nil
	}
	t, err := s.imageTree(ctx, name, s.arch)
	return origin{tree: t, what: "image " + name}, err
}

// identity names the content where that costs nothing: the layers of a tree.
func (o origin) identity() string {
	if o.tree == nil {
		return ""
	}
	return "layers " + o.tree.chain().String()
}

// open makes the files readable.
func (o origin) open(ctx context.Context) (*layout.Source, error) {
	if o.dir != nil {
		return o.dir, nil
	}
	root, err := o.tree.open(ctx)
	if err != nil {
		return nil, err
	}
	return o.tree.session.newSource(layout.Source{Root: root, Owners: &o.tree.owners, Links: l2s.New(root), What: o.what}), nil
}
