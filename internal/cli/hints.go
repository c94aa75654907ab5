package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"proot-distro/internal/archive"
	"proot-distro/internal/build"
	"proot-distro/internal/container"
	"proot-distro/internal/dockerfile"
	"proot-distro/internal/engine/native"
	"proot-distro/internal/engine/proot"
	"proot-distro/internal/guest"
	"proot-distro/internal/image"
	"proot-distro/internal/install"
	"proot-distro/internal/oci"
	"proot-distro/internal/registry"
	"proot-distro/internal/transfer"
	"proot-distro/internal/ui"
)

// present says why the command failed, and what to do about it.
func (a *App) present(err error) {
	a.presentEach(err)
	if errors.As(err, new(*native.StepError)) && proot.TracedByProot() {
		a.UI.Message("This program itself runs under proot, which lets it have no namespaces: run it on the host.")
	}
	if errors.Is(err, native.ErrUnavailable) || errors.Is(err, proot.ErrUnusable) || errors.As(err, new(*proot.NotFoundError)) {
		a.UI.Message(fmt.Sprintf("'%s doctor' says what works on this machine, and why not.", a.Program))
	}
}

// presentEach gives each of several errors its own sentence.
func (a *App) presentEach(err error) {
	var (
		usage *usageError
		many  failures
	)
	switch {
	case passesThrough(err):
	case errors.As(err, &many):
		for _, one := range many {
			a.presentEach(one)
		}
	case errors.Is(err, errAborted):
		a.UI.Message("Aborted by user")
	case errors.As(err, &usage):
		a.UI.Error(usage.text, usage.hints...)
		if usage.cmd != nil {
			h := &helpText{app: a, width: a.helpWidth()}
			h.usage(usage.cmd)
			h.wrap(fmt.Sprintf("Run '%s help %s' for its options and examples.", a.Program, usage.cmd.Name()), 0, 0)
			for line := range strings.Lines(h.String()) {
				a.UI.Message(line)
			}
		}
	default:
		a.UI.Error(err.Error(), a.hints(err)...)
	}
}

// failures are what went wrong with several things named in one command line: each
// gets its own sentence and hints.
type failures []error

func (f failures) Error() string   { return errors.Join(f...).Error() }
func (f failures) Unwrap() []error { return f }

// add keeps err unless it is nil.
func (f *failures) add(err error) {
	if err != nil {
		*f = append(*f, err)
	}
}

// result is nil when nothing failed.
func (f failures) result() error {
	if len(f) == 0 {
		return nil
	}
	return f
}

// hints maps the errors of domain packages to what a person can do.
func (a *App) hints(err error) []string {
	var (
		notFound *container.NotFoundError
		badName  *container.NameError
		exists   *container.ExistsError
		busy     *container.BusyError
		noImage  *install.NoImageError
		missing  *missingError
		dir      *transfer.DirectoryError
		other    *badBackupError
		remote   *registry.Error
		uncached *uncachedError
		damaged  *image.DigestError
		lost     *registry.LostLayerError
		building *build.BusyError
		line     *dockerfile.Error
		step     *native.StepError
		file     *fs.PathError
	)
	switch {
	case errors.As(err, &line):
		return append(buildHints(line), a.hints(line.Err)...)
	case errors.As(err, &notFound):
		return a.nearContainer(notFound.Name)
	case errors.As(err, &badName):
		return a.imageHints(badName.Name)
	case errors.As(err, &exists):
		return []string{fmt.Sprintf("Choose another name%s, or delete it first: %s remove %s",
			a.nameOption(), a.Program, ui.ShellQuote(exists.Name))}
	case errors.As(err, &noImage):
		return []string{fmt.Sprintf("Delete it and install the archive again: %s remove %s", a.Program, ui.ShellQuote(noImage.Name))}
	case errors.Is(err, image.ErrBusy), errors.As(err, &building):
		return []string{"Wait until it has ended."}
	case errors.Is(err, archive.ErrNotBackup) && errors.As(err, &other):
		return []string{fmt.Sprintf("A root filesystem or an image in an archive becomes a container with: %s install %s",
			a.Program, ui.ShellQuote(asPath(other.file)))}
	case errors.As(err, &dir):
		return []string{"Add --recursive to copy it with its content."}
	case errors.As(err, &uncached):
		return a.uncachedHints(uncached)
	case errors.As(err, &missing):
		return append([]string{fmt.Sprintf("'%s %s' shows what there is.", a.Program, missing.hint)}, missing.advice...)
	case errors.As(err, &busy):
		return a.busyHints(busy)
	case errors.As(err, &remote):
		return a.registryHints(remote)
	case errors.As(err, &damaged), errors.As(err, &lost):
		return []string{"Install or build the image again to have it in full."}
	case errors.Is(err, guest.ErrNoShell):
		return []string{fmt.Sprintf("'%s run CONTAINER -- PROGRAM' starts a program without a shell.", a.Program)}
	case errors.Is(err, native.ErrUnavailable) && errors.As(err, &step):
		return []string{step.Fix()}
	case errors.Is(err, syscall.ENOSPC):
		return []string{fmt.Sprintf("The disk is full: make room; '%s list --image' shows what the cache holds.", a.Program)}
	case errors.As(err, &file) && file.Op == "remove" && errors.Is(err, syscall.EPERM):
		return []string{fmt.Sprintf("Somebody may have forbidden it with chattr: 'chattr -ia %s', as root, allows it again.",
			ui.ShellQuote(file.Path))}
	}
	return a.usernsHints(err)
}

func (a *App) busyHints(busy *container.BusyError) []string {
	switch busy.Command {
	case "login", "run", "exec", "":
		return []string{fmt.Sprintf("Wait until it has ended; '%s ps' lists running sessions, and '%[1]s kill %s' ends those of the container.",
			a.Program, ui.ShellQuote(busy.Name))}
	}
	return []string{"Wait until it has ended."}
}

// asPath writes the name of a file so that install takes it for one.
func asPath(file string) string {
	if strings.HasPrefix(file, "/") || strings.HasPrefix(file, ".") {
		return file
	}
	return "./" + file
}

// nameOption is how the running command is told another name, if by an option.
func (a *App) nameOption() string {
	for _, cmd := range a.commands {
		if cmd.Name() == a.command && cmd.Flags().Lookup("name") != nil {
			return " with --name"
		}
	}
	return ""
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
	hints := []string{fmt.Sprintf("'%s list' shows the containers; to make one: %[1]s install %s", a.Program, ui.ShellQuote(name))}
	if a.command == "login" && strings.Contains(name, ".") { // as docker login has it
		hints = append(hints, "If that is a registry: "+credentials)
	}
	return hints
}

// imageHints is for who names an image where a container is meant: "debian:12".
func (a *App) imageHints(name string) []string {
	ref, err := oci.ParseRef(name)
	if takes := []string{"login", "run", "exec", "remove", "backup", "reset"}; err != nil || !slices.Contains(takes, a.command) {
		return nil
	}
	if own := ref.DefaultName(); slices.Contains(a.containersBut(nil), own) {
		return []string{fmt.Sprintf("Did you mean container '%s'?", own)}
	}
	return []string{fmt.Sprintf("An image becomes a container with: %s install %s", a.Program, ui.ShellQuote(name))}
}
