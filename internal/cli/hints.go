package cli

import (
	"errors"
	"fmt"
	"syscall"

	"proot-distro/internal/container"
	"proot-distro/internal/ui"
)

// present says why the command failed, and what to do about it.
func (a *App) present(err error) {
	var usage *usageError
	switch {
	case passesThrough(err):
	case errors.Is(err, errAborted):
		a.UI.Message("Aborted by user")
	case errors.As(err, &usage):
		a.UI.Error(usage.text, usage.hints...)
		if usage.cmd != nil {
			h := &helpText{app: a, width: a.helpWidth()}
			h.usage(usage.cmd)
			h.wrap(fmt.Sprintf("Run '%s help %s' for its options and examples.", a.Program, usage.cmd.Name()), 0, 0)
			a.UI.Message(h.String())
		}
	default:
		a.UI.Error(err.Error(), a.hints(err)...)
	}
}

// hints maps the errors of domain packages to what a person can do.
func (a *App) hints(err error) []string {
	var (
		notFound *container.NotFoundError
		exists   *container.ExistsError
		busy     *container.BusyError
	)
	switch {
	case errors.As(err, &notFound):
		return a.nearContainer(notFound.Name)
	case errors.As(err, &exists):
		return []string{fmt.Sprintf("Choose another name with --name, or delete it first: %s remove %s",
			a.Program, ui.ShellQuote(exists.Name))}
	case errors.As(err, &busy):
		return []string{fmt.Sprintf("Wait until it has ended; '%s ps' lists running sessions.", a.Program)}
	case errors.Is(err, syscall.ENOSPC):
		return []string{fmt.Sprintf("The disk is full: make room; '%s list --image' shows what the cache holds.", a.Program)}
	}
	return nil
}

// nearContainer suggests the container that was meant, or shows how to get one.
func (a *App) nearContainer(name string) []string {
	names := a.containersBut(nil)
	if near := nearest(name, names); near != "" {
		return []string{fmt.Sprintf("Did you mean container '%s'?", near)}
	}
	if len(names) == 0 {
		return []string{fmt.Sprintf("None is installed yet; try: %s install %s", a.Program, ui.ShellQuote(name))}
	}
	return []string{fmt.Sprintf("'%s list' shows the containers; to make one: %s install %s",
		a.Program, a.Program, ui.ShellQuote(name))}
}
