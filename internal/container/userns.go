package container

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"proot-distro/internal/rootfs"
)

// usernsFile marks, by being there, a container whose files have several owners: its guests
// have a user namespace with all the IDs that the person may have, and so must have who handles
// those files. It says "full". The Python program knows nothing of it.
const usernsFile = "userns"

func (t *state) hasAllIDs(dir string) bool {
	info, err := t.Lstat(path.Join(dir, usernsFile))
	return err == nil && info.Mode.IsRegular()
}

// AllIDs reports whether the container's files may have owners of their own.
func (c *Container) AllIDs() bool { return c.state.hasAllIDs(c.dir) }

// SetAllIDs records whether they may. The container must be a draft, or be opened exclusively.
func (c *Container) SetAllIDs(all bool) error {
	if c.mode != Exclusive {
		return fmt.Errorf("change the owners of container %q: it is not locked exclusively", c.Name)
	}
	name := path.Join(c.dir, usernsFile)
	var err error
	if all {
		err = c.state.WriteFile(name, []byte("full\n"), 0o600)
	} else if err = c.state.Remove(name); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return c.state.failed("change the owners of", c.Name, err)
	}
	return nil
}

// ForeignFile looks for a file that does not belong to the caller, and gives its guest path; ""
// when there is none. A directory that cannot be read counts as foreign.
func (c *Container) ForeignFile() (string, error) {
	tree, err := c.Rootfs()
	if err != nil {
		return "", err
	}
	defer tree.Close()
	plain, uid, gid := tree.View(rootfs.NoLinks), unix.Geteuid(), unix.Getegid()
	for dirs := []string{"/"}; len(dirs) > 0; {
		dir := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		entries, err := plain.ReadDir(dir)
		if errors.Is(err, fs.ErrPermission) {
			return dir, nil
		}
		for _, e := range entries {
			name := path.Join(dir, e.Name)
			info, statErr := plain.Lstat(name)
			switch {
			case statErr != nil:
				err = errors.Join(err, statErr)
			case info.UID != uid || info.GID != gid:
				return name, nil
			case info.Mode.IsDir():
				dirs = append(dirs, name)
			}
		}
		if err != nil {
			return "", c.state.failed("look at the owners of", c.Name, err)
		}
	}
	return "", nil
}

// AllIDs reports whether files of one of these containers may have owners of their own.
func (s *Store) AllIDs(names ...string) (bool, error) {
	return s.anyAllIDs(func(t *state) (dirs []string, err error) {
		for _, name := range names {
			if ValidateName(name) == nil {
				dirs = append(dirs, t.home(name))
			}
		}
		return dirs, nil
	})
}

// StagedAllIDs is AllIDs of what lies in staging, which the next command may have to delete.
func (s *Store) StagedAllIDs() (bool, error) {
	return s.anyAllIDs(func(t *state) ([]string, error) {
		entries, err := t.list(t.staging())
		for i, entry := range entries {
			entries[i] = path.Join(t.staging(), entry)
		}
		return entries, err
	})
}

func (s *Store) anyAllIDs(list func(*state) (dirs []string, err error)) (bool, error) {
	t, err := s.open()
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at the owners of containers: %w", err)
	}
	defer t.Close()
	dirs, err := list(t)
	if err != nil {
		return false, fmt.Errorf("look at the owners of containers: %w", err)
	}
	return slices.ContainsFunc(dirs, t.hasAllIDs), nil
}

// clear deletes a container's directory, wherever it is. The mark goes last: what a killed process
// leaves behind takes all IDs, too.
func (t *state) clear(dir string, o rootfs.RemoveOptions) error {
	if t.hasAllIDs(dir) {
		if err := t.RemoveAll(path.Join(dir, "rootfs"), o); err != nil {
			return err
		}
	}
	return t.RemoveAll(dir, o)
}
