package container

import (
	"errors"
	"io/fs"
	"path"
	"strings"

	"proot-distro/internal/l2s"
	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

// movedFrom is the name, in a container's directory, of a note that says where the
// container was: "containers/old" or "installed-rootfs/name". It is written before the
// container is moved and deleted once every stand-in for a hard link leads to the new place.
// So it moves along: whoever finds it knows what is left to be done, and whether anything is.
const movedFrom = "moved-from"

// maxNote limits what is read of the note, in bytes.
const maxNote = 512

func (t *state) note(name string) string       { return path.Join(t.home(name), movedFrom) }
func (t *state) legacy() string                { return t.rel(t.dirs.Legacy()) }
func (t *state) legacyHome(name string) string { return path.Join(t.legacy(), name) }

// hasNote is false too where nobody can look, which [state.status] speaks of.
func (t *state) hasNote(name string) bool {
	_, err := t.Lstat(t.note(name))
	return err == nil
}

// writeNote writes the note in place: one that is only half there means that nothing was moved.
func (t *state) writeNote(name, was string) error {
	dir, base, err := t.Parent(t.note(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	file, err := dir.Create(base, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(was + "\n")
	return errors.Join(err, file.Close())
}

// isLegacy reports whether there is a container in the layout of older versions, whose
// root filesystem is installed-rootfs/<name> itself.
func (t *state) isLegacy(name string) bool {
	info, err := t.Lstat(t.legacyHome(name))
	return err == nil && info.Mode.IsDir()
}

// migrate moves a container of the old layout to the place where containers are now,
// unless there is one already.
func (t *state) migrate(name string) error {
	if !t.isLegacy(name) {
		return nil
	}
	if st, err := t.status(name); err != nil || st == present {
		return err
	}
	if err := t.MkdirAll(t.home(name), 0o700); err != nil {
		return err
	}
	err := t.RemoveAll(t.note(name), rootfs.RemoveOptions{}) // of an attempt that was killed
	if err == nil {
		err = t.writeNote(name, t.legacyHome(name))
	}
	if err != nil {
		return err
	}
	if err := t.move(t.legacyHome(name), path.Join(t.home(name), "rootfs")); err != nil {
		return err
	}
	_ = t.Remove(t.legacy()) // succeeds when this was the last one
	return nil
}

// arrive finishes a move, under the exclusive lock: stand-ins for hard links hold absolute
// paths of the host and must follow.
func (t *state) arrive(name string) error {
	if !t.hasNote(name) {
		return nil
	}
	note, err := t.ReadFile(t.note(name), maxNote)
	if was, ok := t.parseNote(note); err == nil && ok && was != t.home(name) {
		err = t.follow(name, was)
	} else {
		err = nil // a note without meaning, which a guest may have put there, goes too
	}
	if err == nil {
		err = t.RemoveAll(t.note(name), rootfs.RemoveOptions{})
	}
	if err != nil {
		return t.failed("finish moving", name, err)
	}
	return nil
}

// parseNote checks that a note names a place of containers.
func (t *state) parseNote(note []byte) (was string, ok bool) {
	was = strings.TrimSpace(string(note))
	dir, name := path.Split(was)
	dir = path.Clean(dir)
	return was, ValidateName(name) == nil && (dir == t.containers() || dir == t.legacy())
}

func (t *state) follow(name, was string) error {
	if path.Dir(was) == t.containers() {
		was = path.Join(was, "rootfs")
	}
	now := path.Join(t.home(name), "rootfs")
	tree, err := t.Sub(now, rootfs.NoLinks)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was moved
	} else if err != nil {
		return err
	}
	defer tree.Close()
	meter := t.report.Begin(report.Task{Label: "Checking links of " + name, Unit: report.Entries})
	defer meter.Done()
	return l2s.Rewrite(tree, l2s.Move{
		From:      l2s.Roots(t.dirs.Runtime, was),
		To:        path.Join(t.dirs.Runtime, now),
		OnEntries: func(n int) { meter.Add(int64(n)) },
	})
}
