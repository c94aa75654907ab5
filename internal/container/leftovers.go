package container

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"proot-distro/internal/flock"
)

// Leftovers lists the containers of which a killed process left something half-done:
// half-made, half-deleted or half-moved. Nothing is changed; [Store.Sweep], or
// the next command on such a container, finishes it.
func (s *Store) Leftovers() ([]string, error) {
	t, err := s.open()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for leftovers: %w", err)
	}
	defer t.Close()
	entries, err := t.list(t.staging())
	if err != nil {
		return nil, fmt.Errorf("look for leftovers: %w", err)
	}
	var names []string
	for _, entry := range entries {
		name, _, _ := strings.Cut(entry, suffixMark)
		if ValidateName(name) == nil && !t.worked(name) {
			names = append(names, name)
		}
	}
	homes, err := t.list(t.containers())
	if err != nil {
		return nil, fmt.Errorf("look for leftovers: %w", err)
	}
	for _, name := range homes {
		if ValidateName(name) == nil && t.hasNote(name) && !t.worked(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// worked reports whether a living process changes the container.
func (t *state) worked(name string) bool {
	f, err := t.Open(t.lockName(name))
	if err != nil {
		return false // nobody has ever locked it
	}
	defer f.Close()
	free, err := flock.Try(f, unix.LOCK_SH)
	return err == nil && !free
}
