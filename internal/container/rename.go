package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"proot-distro/internal/rootfs"
)

// Rename gives a container another name. Killed on the way, it leaves the container under one
// of the two names, complete; what is missing is done when that name is next used. Errors:
// [NotFoundError], [ExistsError], [BusyError].
//
// An error after the container has its new name wraps [ErrRenamed].
func (s *Store) Rename(oldname, newname, command string) error {
	for _, name := range []string{oldname, newname} {
		if err := ValidateName(name); err != nil {
			return err
		}
	}
	if oldname == newname {
		return fmt.Errorf("container %q has this name already", oldname)
	}
	t, err := s.open()
	if errors.Is(err, fs.ErrNotExist) {
		return &NotFoundError{oldname}
	}
	if err != nil {
		return fmt.Errorf("rename container %q: %w", oldname, err)
	}
	defer t.Close()
	unlock, err := t.lockPair(oldname, newname, command)
	if err != nil {
		return err
	}
	defer unlock()
	return t.rename(oldname, newname)
}

// ErrRenamed says that a container has its new name, but that links in it were not
// brought up to date. The next command that uses it tries again.
var ErrRenamed = errors.New("it has its new name; the next command that uses it tries again")

func (t *state) rename(oldname, newname string) error {
	if err := t.arrive(oldname); err != nil {
		return err
	}
	err := t.writeNote(oldname, t.home(oldname))
	if err == nil {
		err = t.move(t.home(oldname), t.home(newname))
	}
	if err != nil {
		_ = t.Remove(t.note(oldname)) // else the next command deletes it
		return t.failed("rename", oldname, err)
	}
	if err := t.arrive(newname); err != nil {
		return fmt.Errorf("%w (%w)", err, ErrRenamed)
	}
	return nil
}

// lockPair takes the exclusive locks of a container that must exist and of a name that
// must be free, in the order that all programs take several locks in.
func (t *state) lockPair(existing, free, command string) (unlock func(), err error) {
	if !t.known(existing) {
		return nil, &NotFoundError{existing}
	}
	var locks []*os.File
	unlock = func() {
		for _, lock := range locks {
			lock.Close()
		}
	}
	take := func(name string, want func(string) (*os.File, error)) {
		if err != nil {
			return
		}
		var lock *os.File
		if lock, err = want(name); err == nil {
			locks = append(locks, lock)
		}
	}
	open := func(name string) (*os.File, error) { return t.openExisting(name, Exclusive, command) }
	reserve := func(name string) (*os.File, error) { return t.reserve(name, command) }
	if existing < free {
		take(existing, open)
		take(free, reserve)
	} else {
		take(free, reserve)
		take(existing, open)
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// reserve takes the exclusive lock of a name that must be free.
func (t *state) reserve(name, command string) (*os.File, error) {
	lock, st, err := t.lockAndLook(name, Exclusive, command)
	if err != nil {
		return nil, err
	}
	switch st {
	case present:
		err = &ExistsError{name}
	case leftover:
		if err = t.discard(name, t.home(name), rootfs.RemoveOptions{}); err != nil {
			err = t.failed("create", name, err)
		}
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}
