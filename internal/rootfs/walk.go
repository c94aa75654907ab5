package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	maxLinks = 40   // MAXSYMLINKS of Linux, see path_resolution(7)
	maxPath  = 4096 // PATH_MAX, which the guest is held to as well
	// maxSteps bounds what a crafted name costs: each ".." starts again from
	// the root, so that links full of "a/../a/.." would take quadratic time.
	maxSteps = 1 << 14
)

type walkFlags uint8

const (
	followLast    walkFlags = 1 << iota // a link in the last place is followed
	descendLast                         // the last component is a directory to enter
	createMissing                       // missing directories are created
)

var errLink = fmt.Errorf("%w: a symbolic link stands in its place", ErrUnsafe)

// walk is the resolution of one name.
type walk struct {
	flags walkFlags
	perm  fs.FileMode // of created directories

	tree  *FS
	fd    int      // the current directory, or the tree's own root
	at    []string // its path, free of links
	todo  []string // components ahead, the next one last
	base  string   // the result: a component of the current directory, or "."
	links int
	steps int
}

// locate resolves name as far as the directory of its last component, and gives
// that directory and the component. The component is "." if name means the
// directory itself. The Dir is to be closed, and may share the root's descriptor.
func (t *FS) locate(op, name string, flags walkFlags) (*Dir, string, error) {
	w := walk{flags: flags}
	d, err := t.walk(op, name, &w)
	return d, w.base, err
}

func (t *FS) walk(op, name string, w *walk) (*Dir, error) {
	w.tree, w.fd = t, t.root.fd
	err := w.push(name)
	if err == nil && w.flags&descendLast != 0 {
		w.todo = slices.Insert(w.todo, 0, ".")
	}
	if err == nil {
		err = w.run()
	}
	if err != nil {
		w.restart()
		return nil, &fs.PathError{Op: op, Path: t.base() + guestPath(name), Err: err}
	}
	return &Dir{fd: w.fd, shared: w.fd == t.root.fd, name: strings.Join(w.at, "/"), base: t.base()}, nil
}

// push puts the components of a name or of a link's target before those ahead. A
// trailing slash becomes ".", which makes the component before it a directory.
func (w *walk) push(name string) error {
	if len(name) >= maxPath {
		return unix.ENAMETOOLONG
	}
	if strings.IndexByte(name, 0) >= 0 {
		return unix.EINVAL
	}
	parts := strings.Split(name, "/")
	for i, part := range slices.Backward(parts) {
		last := i == len(parts)-1
		if part != "" && part != "." || last && i > 0 {
			if part == "" {
				part = "."
			}
			w.todo = append(w.todo, part)
		}
	}
	return nil
}

func (w *walk) run() error {
	for len(w.todo) > 0 {
		name := w.todo[len(w.todo)-1]
		w.todo = w.todo[:len(w.todo)-1]
		last := len(w.todo) == 0
		if w.steps++; w.steps > maxSteps {
			return unix.ELOOP
		}
		var err error
		switch {
		case name == "." && last:
			w.base = "."
			return nil
		case name == ".":
		case name == "..":
			w.up()
		case !last:
			err = w.down(name)
		default:
			var done bool
			if done, err = w.final(name); done {
				w.base = name
				return nil
			}
		}
		if err != nil {
			return err
		}
	}
	w.base = "."
	return nil
}

// up starts again from the root, on the way to the current directory's parent.
func (w *walk) up() {
	if len(w.at) > 0 {
		w.at = w.at[:len(w.at)-1]
	}
	for len(w.todo) > 0 && w.todo[len(w.todo)-1] == ".." && len(w.at) > 0 {
		w.todo = w.todo[:len(w.todo)-1]
		w.at = w.at[:len(w.at)-1]
	}
	for _, name := range slices.Backward(w.at) {
		w.todo = append(w.todo, name)
	}
	w.restart()
}

func (w *walk) restart() {
	w.enter(w.tree.root.fd)
	w.at = w.at[:0]
}

// enter makes fd the current directory.
func (w *walk) enter(fd int) {
	if w.fd != w.tree.root.fd {
		unix.Close(w.fd)
	}
	w.fd = fd
}

// down enters a directory, or follows a link in its place.
func (w *walk) down(name string) error {
	fd, err := openat(w.fd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err == unix.ENOENT && w.flags&createMissing != 0 {
		if err := w.create(name); err != nil {
			return err
		}
		fd, err = openat(w.fd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	}
	if err == nil {
		w.enter(fd)
		w.at = append(w.at, name)
		return nil
	}
	if !isLinkError(err) {
		return err
	}
	target, linkErr := readlinkat(w.fd, name)
	if linkErr == unix.EINVAL {
		return unix.ENOTDIR
	}
	if linkErr != nil {
		return linkErr
	}
	return w.link(target)
}

// create creates a directory that was missing.
func (w *walk) create(name string) error {
	err := unix.Mkdirat(w.fd, name, UnixMode(w.perm))
	if err == unix.EEXIST { // no longer
		return nil
	}
	if err != nil {
		return err
	}
	return chmodat(w.fd, name, UnixMode(w.perm))
}

// final reports whether name, the last component, is the result; else it was a
// link, and the walk goes on with its target.
func (w *walk) final(name string) (done bool, err error) {
	if w.flags&followLast == 0 {
		return true, nil
	}
	target, err := readlinkat(w.fd, name)
	if err == unix.EINVAL || err == unix.ENOENT {
		return true, nil // what it is, or that it is missing, is found by its use
	}
	if err != nil {
		return false, err
	}
	return false, w.link(target)
}

func (w *walk) link(target string) error {
	if w.tree.links == NoLinks {
		return errLink
	}
	if w.links++; w.links > maxLinks {
		return unix.ELOOP
	}
	if strings.HasPrefix(target, "/") {
		w.restart()
		target = w.tree.anchor(target)
	}
	return w.push(target)
}

// anchor takes the root's host path off an absolute target; see [FS.Anchored].
func (t *FS) anchor(target string) string {
	for _, root := range t.names {
		if name, ok := strings.CutPrefix(target, root); ok && strings.HasPrefix(name, "/") {
			return name
		}
	}
	return target
}

// isLinkError tells errors by which a link can answer to O_NOFOLLOW.
func isLinkError(err error) bool {
	return errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

func openat(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func readlinkat(dir int, name string) (string, error) {
	for buf := make([]byte, 256); ; buf = make([]byte, 4*len(buf)) {
		n, err := unix.Readlinkat(dir, name, buf)
		if err != nil {
			return "", err
		}
		if n < len(buf) {
			return string(buf[:n]), nil
		}
	}
}
