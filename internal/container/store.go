package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"proot-distro/internal/host"
	"proot-distro/internal/report"
)

// Store is the collection of containers below host.Dirs.
type Store struct {
	// Report is told of work that opening a container brings along and that may
	// take long; nil tells nobody.
	Report report.Reporter

	dirs host.Dirs
}

// NewStore gives the store below dirs. Nothing is read or created yet.
func NewStore(dirs host.Dirs) *Store { return &Store{dirs: dirs} }

// NotFoundError says that no container has this name.
type NotFoundError struct{ Name string }

func (e *NotFoundError) Error() string { return fmt.Sprintf("there is no container %q", e.Name) }

// ExistsError says that the name is taken.
type ExistsError struct{ Name string }

func (e *ExistsError) Error() string { return fmt.Sprintf("the container %q exists already", e.Name) }

// Names lists the containers in alphabetical order, without a lock. What else
// lies in containers/ is passed over.
func (s *Store) Names() ([]string, error) {
	t, err := s.open()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	defer t.Close()
	// First the place that containers leave: what moves meanwhile is found at either.
	names, err := t.list(t.legacy())
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return ValidateName(name) != nil || !t.isLegacy(name) })
	homes, err := t.list(t.containers())
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	names = append(names, slices.DeleteFunc(homes, func(name string) bool {
		st, err := t.status(name)
		return ValidateName(name) != nil || err != nil || st != present
	})...)
	// Only now staging: a container whose replacement is half-way is found there.
	staged, err := t.list(t.staging())
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	for _, entry := range staged {
		if name, ok := strings.CutSuffix(entry, asideSuffix); ok && ValidateName(name) == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Open locks an existing container; command is what a [BusyError] of others
// shall call this process. Errors: [NotFoundError], [BusyError].
func (s *Store) Open(name string, mode LockMode, command string) (*Container, error) {
	if err := ValidateName(name); err != nil {
		return nil, err
	}
	t, err := s.open()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotFoundError{name}
	}
	if err != nil {
		return nil, fmt.Errorf("open container %q: %w", name, err)
	}
	lock, err := t.openExisting(name, mode, command)
	if err != nil {
		t.Close()
		return nil, err
	}
	c := &Container{Name: name, state: t, lock: lock, mode: mode, dir: t.home(name)}
	if mode == Exclusive {
		c.unfinished = t.arrive(name) // no obstacle to deleting or replacing it
	}
	return c, nil
}

// openExisting takes the lock of a container that is there.
func (t *state) openExisting(name string, mode LockMode, command string) (*os.File, error) {
	// Without this look, each mistyped name would leave a lock file. A name that
	// is being installed right now has one already, and is reported as busy.
	if !t.known(name) {
		return nil, &NotFoundError{name}
	}
	lock, st, err := t.lockAndLook(name, mode, command)
	if err != nil {
		return nil, err
	}
	if mode == Shared && t.unsettled(name, st) {
		lock.Close()
		if err := t.recover(name, command); err != nil {
			return nil, err
		}
		if lock, st, err = t.lockAndLook(name, mode, command); err != nil {
			return nil, err
		}
	}
	if st != present {
		lock.Close()
		return nil, &NotFoundError{name}
	}
	return lock, nil
}

// lockAndLook takes the lock and then says what is there. With an exclusive lock
// everything has been tidied.
func (t *state) lockAndLook(name string, mode LockMode, command string) (*os.File, status, error) {
	lock, err := t.lock(name, mode, command)
	if err != nil {
		return nil, absent, err
	}
	if mode == Exclusive {
		err = t.tidy(name)
	}
	st := absent
	if err == nil {
		st, err = t.status(name)
	}
	if err != nil {
		lock.Close()
		return nil, absent, err
	}
	return lock, st, nil
}

// recover finishes a replacement or a move that was killed half-way, and moves a
// container of the old layout, which takes the exclusive lock for a moment.
func (t *state) recover(name, command string) error {
	lock, _, err := t.lockAndLook(name, Exclusive, command)
	if err != nil {
		return err
	}
	return errors.Join(t.arrive(name), lock.Close())
}

// Create locks a name that is not taken and gives an uncommitted container in
// staging, with an empty rootfs. Errors: [ExistsError], [BusyError].
func (s *Store) Create(name, command string) (*Container, error) {
	if err := ValidateName(name); err != nil {
		return nil, err
	}
	t, err := s.make()
	if err != nil {
		return nil, fmt.Errorf("create container %q: %w", name, err)
	}
	c, err := t.create(name, command)
	if err != nil {
		t.Close()
		return nil, err
	}
	return c, nil
}

func (t *state) create(name, command string) (*Container, error) {
	lock, err := t.reserve(name, command)
	if err != nil {
		return nil, err
	}
	if err = t.makeDraft(name); err != nil {
		lock.Close()
		return nil, err
	}
	return &Container{Name: name, state: t, lock: lock, mode: Exclusive, dir: t.draft(name), uncommitted: true}, nil
}

// Sweep finishes what killed processes left half-done: half-made and half-deleted
// containers go, and one that was about to be replaced comes back. What
// a living process is working on is left alone. Records of dead sessions go, too: proot leaves
// nobody behind who could delete its own. Commands that change something call it first.
func (s *Store) Sweep() error {
	t, err := s.open()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("clean up the staging directory: %w", err)
	}
	defer t.Close()
	entries, err := t.list(t.staging())
	if err != nil {
		return fmt.Errorf("clean up the staging directory: %w", err)
	}
	var failed []error
	_, _ = s.Sessions() // no reason for the command to fail
	for _, entry := range entries {
		name, _, _ := strings.Cut(entry, suffixMark)
		if ValidateName(name) != nil {
			continue
		}
		var busy *BusyError
		if err := t.recover(name, "cleanup"); err != nil && !errors.As(err, &busy) {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}
