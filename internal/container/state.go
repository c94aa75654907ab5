package container

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"proot-distro/internal/host"
	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

// What may follow a name in staging/. The mark cannot be part of a name.
const (
	suffixMark    = "~"
	asideSuffix   = suffixMark + "old"
	removedSuffix = suffixMark + "removed"
)

// state is the open state directory. Its methods speak of entries by their
// paths relative to it.
type state struct {
	*rootfs.FS
	dirs   host.Dirs
	report report.Reporter
}

// open opens the state directory; fs.ErrNotExist when nothing was ever installed.
func (s *Store) open() (*state, error) {
	return s.state(rootfs.Open(s.dirs.Runtime, rootfs.NoLinks))
}

// make opens the state directory after creating what is missing. Nobody else
// may look in.
func (s *Store) make() (*state, error) {
	return s.state(rootfs.OpenState(s.dirs.Runtime, s.dirs.Runtime, true))
}

func (s *Store) state(tree *rootfs.FS, err error) (*state, error) {
	if err != nil {
		return nil, err
	}
	reporter := s.Report
	if reporter == nil {
		reporter = report.Discard
	}
	return &state{FS: tree, dirs: s.dirs, report: reporter}, nil
}

func (t *state) rel(dir string) string {
	name, err := filepath.Rel(t.dirs.Runtime, dir)
	if err != nil {
		return dir
	}
	return filepath.ToSlash(name)
}

func (t *state) containers() string         { return t.rel(t.dirs.Containers()) }
func (t *state) staging() string            { return t.rel(t.dirs.Staging()) }
func (t *state) locks() string              { return t.rel(t.dirs.Locks()) }
func (t *state) sessions() string           { return t.rel(t.dirs.Sessions()) }
func (t *state) home(name string) string    { return path.Join(t.containers(), name) }
func (t *state) draft(name string) string   { return path.Join(t.staging(), name) }
func (t *state) aside(name string) string   { return path.Join(t.staging(), name+asideSuffix) }
func (t *state) removed(name string) string { return path.Join(t.staging(), name+removedSuffix) }

// list gives the names in a directory; none when it does not exist.
func (t *state) list(dir string) ([]string, error) {
	entries, err := t.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name
	}
	return names, nil
}

func (t *state) exists(name string) bool {
	_, err := t.Lstat(name)
	return !errors.Is(err, fs.ErrNotExist)
}

// known reports whether something of a container called name may be there.
func (t *state) known(name string) bool {
	return t.exists(t.home(name)) || t.isLegacy(name) || t.exists(t.aside(name)) || t.exists(t.lockName(name))
}

// status is what containers/<name> holds.
type status int

const (
	absent   status = iota
	leftover        // a directory without a rootfs: not a container
	present
)

// status looks at containers/<name>. Something that nobody's program put there
// is an error: it is neither used nor deleted.
func (t *state) status(name string) (status, error) {
	home := t.home(name)
	if info, err := t.Lstat(home); errors.Is(err, fs.ErrNotExist) {
		return absent, nil
	} else if err != nil {
		return absent, t.failed("open", name, err)
	} else if !info.Mode.IsDir() {
		return absent, t.foreign(home)
	}
	root := path.Join(home, "rootfs")
	info, err := t.Lstat(root)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return leftover, nil
	case errors.Is(err, fs.ErrPermission):
		return present, nil // a locked directory; removing it works all the same
	case err != nil:
		return absent, t.failed("open", name, err)
	case !info.Mode.IsDir():
		return absent, t.foreign(root)
	}
	return present, nil
}

func (t *state) foreign(name string) error {
	return fmt.Errorf("%s is not a directory, and links are not followed there: move it away",
		filepath.Join(t.dirs.Runtime, filepath.FromSlash(name)))
}

// unsettled reports whether a container has to be brought to its place before it can be used.
func (t *state) unsettled(name string, st status) bool {
	return t.hasNote(name) || st != present && (t.exists(t.aside(name)) || t.isLegacy(name))
}

// tidy finishes what a killed process left of name, under its exclusive lock, and moves
// a container of the old layout. Afterwards staging holds nothing of it.
func (t *state) tidy(name string) error {
	err := t.settle(name)
	for _, rest := range []string{t.draft(name), t.removed(name)} {
		if err == nil {
			err = t.clear(rest, rootfs.RemoveOptions{})
		}
	}
	if err == nil {
		err = t.migrate(name)
	}
	if err != nil {
		return t.failed("clean up after", name, err)
	}
	return nil
}

// settle decides a replacement that was killed between its two renames: the
// predecessor comes back, unless the new container has its place already.
func (t *state) settle(name string) error {
	if !t.exists(t.aside(name)) {
		return nil
	}
	st, err := t.status(name)
	if err != nil {
		return err
	}
	if st == present {
		return t.discard(name, t.aside(name), rootfs.RemoveOptions{})
	}
	if st == leftover {
		if err := t.discard(name, t.home(name), rootfs.RemoveOptions{}); err != nil {
			return err
		}
	}
	return t.move(t.aside(name), t.home(name))
}

// discard deletes a directory that is or was a container. It is renamed
// first, so that no half of one is ever found under its old name.
func (t *state) discard(name, dir string, o rootfs.RemoveOptions) error {
	trash := t.removed(name)
	if err := t.clear(trash, rootfs.RemoveOptions{}); err != nil {
		return err
	}
	err := t.move(dir, trash)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		trash, err = dir, nil // no room even for a name, and deleting is the cure
	}
	if err != nil {
		return err
	}
	if tell := o.OnRemove; tell != nil {
		o.OnRemove = func(p string) {
			if below, ok := strings.CutPrefix(p, "/"+trash+"/"); ok {
				tell("/" + below)
			}
		}
	}
	return t.clear(trash, o)
}

// move renames a directory; the new parent is made when it is missing.
func (t *state) move(from, to string) error {
	if err := t.MkdirAll(path.Dir(to), 0o755); err != nil {
		return err
	}
	err := t.Rename(from, to)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	// A directory that changes its parent must be writable itself, since its
	// ".." changes (rename(2), EACCES).
	info, statErr := t.Lstat(from)
	if statErr != nil || t.Chmod(from, 0o700) != nil {
		return err
	}
	at := to
	if err = t.Rename(from, to); err != nil {
		at = from
	}
	return errors.Join(err, t.Chmod(at, info.Mode))
}

// makeDraft creates staging/<name>/rootfs, after tidy.
func (t *state) makeDraft(name string) error {
	root := path.Join(t.draft(name), "rootfs")
	err := t.MkdirAll(t.staging(), 0o755)
	if err == nil {
		err = t.Mkdir(t.draft(name), 0o700)
	}
	if err == nil {
		err = t.Mkdir(root, 0o755)
	}
	if err == nil {
		err = t.Chmod(root, 0o755) // as the guest expects its /, whatever the umask
	}
	if err != nil {
		return t.failed("create", name, err)
	}
	return nil
}

// failed says what could not be done to a container.
func (t *state) failed(verb, name string, err error) error {
	return fmt.Errorf("%s container %q: %w", verb, name, err)
}
