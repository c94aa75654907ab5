package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"proot-distro/internal/dockerfile"
	"proot-distro/internal/l2s"
	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

// Source is a tree that files are copied from.
type Source struct {
	Root   *rootfs.FS
	What   string             // "the build context"
	Owners *Owners            // nil: all is root's
	Ignore *dockerfile.Ignore // of the build context
	Links  *l2s.Tree          // of a root filesystem; nil for directories of the host
	Host   bool               // a directory of the host, whose times mean nothing
	OnSkip func(name, reason string)
}

// verdict is what the ignore file says of a path.
func (src *Source) verdict(name string) (dockerfile.Verdict, error) {
	var v dockerfile.Verdict
	if src.Ignore == nil || name == "" {
		return v, nil
	}
	for i := range name {
		if name[i] == '/' {
			var err error
			if v, err = src.Ignore.Match(name[:i], v); err != nil {
				return v, err
			}
		}
	}
	return src.Ignore.Match(name, v)
}

// Expand gives the paths below the root that a word of COPY means: one, or for a pattern those
// that match, perhaps none.
func (src *Source) Expand(word string) ([]string, error) {
	name := relative(word)
	if !IsPattern(name) {
		if _, err := src.Root.Stat(name); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil, src.Missing(word)
			}
			return nil, fmt.Errorf("%s in %s: %w", word, src.What, report.Cause(err))
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

// Missing says that a source of COPY is not there; errors are [*MissingError].
func (src *Source) Missing(word string) error {
	hint := ""
	if v, err := src.verdict(relative(word)); err == nil && v.Ignored {
		hint = ": the ignore file excludes it"
	}
	return &MissingError{fmt.Sprintf("%s is not in %s%s", word, src.What, hint)}
}

// MissingError says that a source of COPY is not there.
type MissingError struct{ text string }

func (e *MissingError) Error() string { return e.text }

// step goes one component of a pattern further.
func (src *Source) step(dirs []string, component string) ([]string, error) {
	var found []string
	for _, dir := range dirs {
		if !IsPattern(component) {
			if _, err := src.Root.Lstat(path.Join(dir, component)); err == nil {
				found = append(found, path.Join(dir, component))
			}
			continue
		}
		entries, err := src.Root.ReadDir(dir)
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

// IsPattern reports whether a word of COPY may mean several files.
func IsPattern(name string) bool { return strings.ContainsAny(name, `*?[\`) }

// relative makes a path one below the root: "" is the root itself.
func relative(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }
