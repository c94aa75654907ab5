package cli

import (
	"errors"
	"fmt"

	"proot-distro/internal/build"
	"proot-distro/internal/container"
	"proot-distro/internal/dockerfile"
	"proot-distro/internal/guest"
	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/registry"
)

// Exit codes of the program itself. Login and run give the guest's own code.
const (
	exitOK       = 0
	exitFailure  = 1
	exitUsage    = 2
	exitNotFound = 3
	exitBusy     = 4
	exitNetwork  = 5
	exitNoEngine = 6
	exitSession  = 125
	exitAborted  = 130
)

// ExitCodes documents every exit code, for help and the man page.
func ExitCodes() [][2]string {
	return [][2]string{
		{"0", "Success."},
		{"1", "The command failed."},
		{"2", "The command line is wrong."},
		{"3", "There is no such container, image or session."},
		{"4", "Another command is using the container or the cache."},
		{"5", "The registry or the network failed."},
		{"6", "doctor: no engine can run containers on this machine."},
		{"125", "login, run: the session could not be started."},
		{"126", "login, run: the guest's command cannot be executed."},
		{"127", "login, run: the guest's command was not found."},
		{"128+N", "login, run: signal N killed the guest's command."},
		{"130", "Aborted by the user."},
		{"other", "login, run: the exit code of the guest's command."},
	}
}

// guestStatus is the exit code of a guest's command, to be passed through.
type guestStatus int

func (s guestStatus) Error() string {
	return fmt.Sprintf("the guest's command ended with status %d", int(s))
}

// GuestStatus makes the error with which login and run return a guest's exit
// status; nil for 0.
func GuestStatus(status int) error {
	if status == 0 {
		return nil
	}
	return guestStatus(status)
}

// sessionError marks failures to start a session.
type sessionError struct{ error }

func (e sessionError) Unwrap() error { return e.error }

// SessionError marks err as the reason why login or run could not start the
// guest's command: 125 unless a more telling code fits.
func SessionError(err error) error {
	if err == nil {
		return nil
	}
	return sessionError{err}
}

// passesThrough reports whether err is nothing to talk about: the guest has said
// it already.
func passesThrough(err error) bool {
	var status guestStatus
	return errors.As(err, &status)
}

// exitCode decides the exit code of the process.
func exitCode(err error) int {
	var (
		status    guestStatus
		usage     *usageError
		session   sessionError
		program   *guest.ProgramError
		notFound  *container.NotFoundError
		busy      *container.BusyError
		missing   *missingError
		busyImage *build.BusyError
		remote    *registry.Error
		line      *dockerfile.Error
		badName   *container.NameError
		badRef    *oci.RefError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &status):
		return int(status)
	case errors.Is(err, errAborted):
		return exitAborted
	case errors.As(err, &usage):
		return exitUsage
	case (errors.As(err, &badName) || errors.As(err, &badRef)) && !errors.As(err, &line):
		return exitUsage
	case errors.As(err, &program):
		return program.Status
	case errors.As(err, &notFound), errors.As(err, &missing):
		return exitNotFound
	case errors.As(err, &busy), errors.As(err, &busyImage), errors.Is(err, image.ErrBusy):
		return exitBusy
	case errors.As(err, &remote):
		return registryExitCode(remote)
	case errors.Is(err, errUnreachable):
		return exitNetwork
	case errors.Is(err, errNoEngine):
		return exitNoEngine
	case errors.As(err, &session):
		return exitSession
	}
	return exitFailure
}

// missingError: what was named does not exist (an image that is not cached, a
// session that has ended).
type missingError struct {
	what string
	hint string // the command that lists what exists, without the program's name

	advice []string // what else can be done
}

func (e *missingError) Error() string { return e.what }
