package session

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	"proot-distro/internal/engine"
	"proot-distro/internal/guest"
)

// loginDir is --work-dir or the user's home. A home that does not exist costs a
// warning; a wish that cannot be met is an error.
func (s *Session) loginDir(o Options, spec engine.Spec, user guest.User) (string, error) {
	if o.WorkDir != "" {
		return s.explicitDir(o.WorkDir, spec)
	}
	if err := s.directory(user.Home, spec); err != nil {
		s.rep.Warnf("the home directory %s of user %s cannot be used (%v); starting in /", user.Home, user.Name, err)
		return "/", nil
	}
	return user.Home, nil
}

// runDir is --work-dir, the image's WorkingDir or "/". WorkingDir may be missing:
// as with Docker, Prepare makes it.
func (s *Session) runDir(o Options, spec engine.Spec) (string, error) {
	if o.WorkDir != "" {
		return s.explicitDir(o.WorkDir, spec)
	}
	dir := path.Join("/", s.image.Config.WorkingDir)
	if err := s.directory(dir, spec); err != nil && !errors.Is(err, errNoDirectory) {
		return "", fmt.Errorf("container %s: the image's working directory %s cannot be used: %w", s.name, dir, err)
	}
	return dir, nil
}

func (s *Session) explicitDir(dir string, spec engine.Spec) (string, error) {
	if !path.IsAbs(dir) {
		return "", fmt.Errorf("--work-dir %q: it must be an absolute path", dir)
	}
	if err := s.directory(dir, spec); err != nil {
		return "", fmt.Errorf("--work-dir %s cannot be used in container %s: %w", dir, s.name, err)
	}
	return dir, nil
}

var errNoDirectory = errors.New("it does not exist")

// directory checks that dir is a directory for the guest of spec.
func (s *Session) directory(dir string, spec engine.Spec) error {
	mode, err := s.modeOf(dir, spec)
	var pathErr *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errNoDirectory
	case errors.As(err, &pathErr):
		return pathErr.Err
	case err != nil:
		return err
	case !mode.IsDir():
		return errors.New("it is not a directory")
	}
	return nil
}

func (s *Session) modeOf(dir string, spec engine.Spec) (fs.FileMode, error) {
	if hostPath, ok := bound(spec.Binds, dir); ok {
		info, err := os.Stat(hostPath)
		if err != nil {
			return 0, err
		}
		return info.Mode(), nil
	}
	if slices.ContainsFunc(spec.Tmpfs, func(m engine.Tmpfs) bool { return m.Target == path.Clean(dir) }) {
		return fs.ModeDir, nil
	}
	info, err := s.root.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) && coversAny(spec.Binds, dir) {
		return fs.ModeDir, nil // the engine makes the parents of its binds
	}
	return info.Mode, err
}

// coversAny reports whether dir is a parent of a bind's destination.
func coversAny(binds []engine.Bind, dir string) bool {
	for _, b := range binds {
		if covers(path.Clean(dir), b.Target) {
			return true
		}
	}
	return false
}

// Prepare writes what a spec needs to have in the container and beside it: the image's working
// directory, the profile snippet, and what pending binds and features want. A snippet that cannot be written costs a
// warning.
func (s *Session) Prepare(spec engine.Spec) error {
	if err := s.prepareTermux(spec); err != nil {
		return err
	}
	if errors.Is(s.directory(spec.WorkDir, spec), errNoDirectory) {
		if err := s.root.MkdirAll(spec.WorkDir, 0o755); err != nil {
			return fmt.Errorf("container %s: make the working directory: %w", s.name, err)
		}
	}
	if err := writeProfile(s.root, spec.Env); err != nil {
		s.rep.Warnf("login shells of other users will lack this session's variables: %v", err)
	}
	return nil
}
