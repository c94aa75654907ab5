package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"proot-distro/internal/dockerfile"
	"proot-distro/internal/l2s"
	"proot-distro/internal/rootfs"
)

// source is a tree that files are copied from.
type source struct {
	root    *rootfs.FS
	owners  owners             // nil: all is root's
	ignore  *dockerfile.Ignore // of the build context
	links   *l2s.Tree          // of a root filesystem; nil for directories of the host
	what    string             // "the build context"
	context bool               // a directory of the host, whose times mean nothing
}

// contextSource opens the build context.
func (s *session) contextSource() (*source, error) {
	if s.context != nil {
		return s.context, nil
	}
	src, err := s.hostSource(s.req.Context, "the build context")
	if err != nil {
		return nil, err
	}
	src.ignore = s.req.Ignore
	s.context = src
	return src, nil
}

// hostSource opens a directory of the host. Links in it lead to places in it.
func (s *session) hostSource(dir, what string) (*source, error) {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = errors.New("it is not a directory")
	}
	var root *rootfs.FS
	if err == nil {
		root, err = rootfs.Open(dir, rootfs.GuestLinks)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot use %s as %s: %w", dir, what, innermost(err))
	}
	s.closers = append(s.closers, root.Close)
	return &source{root: root, what: what, context: true}, nil
}

// innermost drops operation and path of an error, which the sentence around it tells.
func innermost(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// origin is where --from and a mount's from lead to.
type origin struct {
	stage *stage // or else
	tree  *tree  // of an image, or else
	dir   *source
	what  string
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
		return origin{dir: src, what: src.what}, nil
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
		return origin{stage: from, tree: from.tree, what: "stage " + def.Name}, nil
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
func (o origin) open(ctx context.Context) (*source, error) {
	if o.dir != nil {
		return o.dir, nil
	}
	root, err := o.tree.open(ctx)
	if err != nil {
		return nil, err
	}
	return &source{root: root, owners: o.tree.owners, links: l2s.New(root), what: o.what}, nil
}

// verdict is what the ignore file says of a path.
func (src *source) verdict(name string) (dockerfile.Verdict, error) {
	var v dockerfile.Verdict
	if src.ignore == nil || name == "" {
		return v, nil
	}
	for i := range name {
		if name[i] == '/' {
			var err error
			if v, err = src.ignore.Match(name[:i], v); err != nil {
				return v, err
			}
		}
	}
	return src.ignore.Match(name, v)
}

// expand gives the paths below the root that a word of COPY means: one, or for a pattern those
// that match, perhaps none.
func (src *source) expand(word string) ([]string, error) {
	name := strings.TrimPrefix(path.Clean("/"+word), "/")
	if !isPattern(name) {
		if _, err := src.root.Stat(name); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil, src.missing(word)
			}
			return nil, fmt.Errorf("%s in %s: %w", word, src.what, innermost(err))
		}
		return []string{name}, nil
	}
	found := []string{""}
	for component := range strings.SplitSeq(name, "/") {
		var err error
		if found, err = src.step(found, component); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (src *source) missing(word string) error {
	hint := ""
	if v, err := src.verdict(strings.TrimPrefix(path.Clean("/"+word), "/")); err == nil && v.Ignored {
		hint = ": the ignore file excludes it"
	}
	return &missingError{fmt.Sprintf("%s is not in %s%s", word, src.what, hint)}
}

// missingError says that a source of COPY is not there.
type missingError struct{ text string }

func (e *missingError) Error() string { return e.text }

// step goes one component of a pattern further.
func (src *source) step(dirs []string, component string) ([]string, error) {
	var found []string
	for _, dir := range dirs {
		if !isPattern(component) {
			if _, err := src.root.Lstat(path.Join(dir, component)); err == nil {
				found = append(found, path.Join(dir, component))
			}
			continue
		}
		entries, err := src.root.ReadDir(dir)
		if err != nil {
			continue // a file: nothing in it
		}
		for _, e := range entries {
			ok, err := path.Match(component, e.Name)
			if err != nil {
				return nil, fmt.Errorf("pattern %s: %w", component, err)
			}
			if ok {
				found = append(found, path.Join(dir, e.Name))
			}
		}
	}
	return found, nil
}

func isPattern(name string) bool { return strings.ContainsAny(name, `*?[\`) }
