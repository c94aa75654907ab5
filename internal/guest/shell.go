package guest

import (
	"errors"
	"path"
	"slices"
)

// notShells are programs that stand in the shell field of accounts which nobody
// logs in to. A person who names such an account wants a shell all the same.
var notShells = []string{"nologin", "false", "true", "sync", "halt", "shutdown"}

var commonShells = []string{"/bin/bash", "/bin/sh", "/usr/bin/bash", "/usr/bin/sh", "/bin/ash", "/busybox/sh"}

// ErrNoShell is wrapped by the [*ProgramError] for a container that has no shell at
// all, as images of a single program do.
var ErrNoShell = errors.New("the container has no shell (neither the user's own nor bash nor sh)")

// LoginShell returns the first of the user's shell, bash and sh that can run. When
// there are shells but none can run, the error is the [*ProgramError] of the
// first; when there is none, it wraps [ErrNoShell].
func LoginShell(programs Programs, user User) (string, error) {
	shells := commonShells
	if user.HasShell() {
		shells = append([]string{user.Shell}, shells...)
	}
	var unusable error
	for _, shell := range shells {
		err := programs.Inspect(shell)
		if err == nil {
			return shell, nil
		}
		if _, status := programs.executable(shell); status != StatusNotFound && unusable == nil {
			unusable = err
		}
	}
	if unusable != nil {
		return "", unusable
	}
	return "", &ProgramError{Path: shells[0], Cause: ErrNoShell.Error(), Status: StatusNotFound, err: ErrNoShell}
}

// POSIXShell returns the first shell that understands sh's language and can run,
// or "" when there is none.
func POSIXShell(programs Programs) string {
	for _, shell := range []string{"/bin/sh", "/usr/bin/sh", "/bin/bash", "/usr/bin/bash", "/bin/dash", "/bin/ash", "/busybox/sh"} {
		if programs.Inspect(shell) == nil {
			return shell
		}
	}
	return ""
}

// HasShell reports whether the account has a shell of its own to log in with.
func (u User) HasShell() bool {
	return path.IsAbs(u.Shell) && !slices.Contains(notShells, path.Base(u.Shell))
}
