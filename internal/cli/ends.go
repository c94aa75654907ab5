package cli

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"proot-distro/internal/container"
	"proot-distro/internal/transfer"
	"proot-distro/internal/ui"
)

// ends are the two ends of a copy or a sync, with the locks of their containers.
type ends struct {
	from, to transfer.End
	closers  []func() error
}

func (e *ends) close() error {
	var failed []error
	for _, c := range slices.Backward(e.closers) {
		failed = append(failed, c())
	}
	return errors.Join(failed...)
}

// parseEnd reads [CONTAINER:]PATH. What begins with /, ./ or ../ is the host's,
// whatever colons it has.
func parseEnd(cmd *cobra.Command, arg string) (transfer.End, error) {
	name, inside, found := strings.Cut(arg, ":")
	if !found || container.ValidateName(name) != nil {
		if arg == "" {
			return transfer.End{}, UsageErrorf(cmd, "an empty path means nothing")
		}
		return transfer.End{Path: arg}, nil
	}
	if inside == "" {
		return transfer.End{}, UsageErrorf(cmd, "%s names no path in the container: its root directory is %s",
			ui.ShellQuote(arg), ui.ShellQuote(arg+"/"))
	}
	return transfer.End{Container: name, Path: inside}, nil
}

// openEnds locks the containers in alphabetical order: the destination exclusively,
// the source so that it stays.
func (a *App) openEnds(cmd *cobra.Command, args []string) (opened *ends, err error) {
	e := &ends{}
	if e.from, err = parseEnd(cmd, args[0]); err != nil {
		return nil, err
	}
	if e.to, err = parseEnd(cmd, args[1]); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	modes := map[string]container.LockMode{}
	for _, end := range []transfer.End{e.from, e.to} {
		if end.Container != "" {
			modes[end.Container] = container.Shared
		}
	}
	if e.to.Container != "" {
		modes[e.to.Container] = container.Exclusive
	}
	names := []string{e.from.Container, e.to.Container}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if name == "" {
			continue
		}
		if err := a.openEnd(e, name, modes[name], cmd.Name()); err != nil {
			return nil, colonHint(cmd, args, err)
		}
	}
	return e, nil
}

// openEnd locks one container and opens its root filesystem for the ends that lie
// in it.
func (a *App) openEnd(e *ends, name string, mode container.LockMode, verb string) error {
	store, err := a.Store()
	if err != nil {
		return err
	}
	c, err := store.Open(name, mode, verb)
	if err != nil {
		return err
	}
	e.closers = append(e.closers, c.Close)
	root, err := c.Rootfs()
	if err != nil {
		return err
	}
	e.closers = append(e.closers, root.Close)
	for _, end := range []*transfer.End{&e.from, &e.to} {
		if end.Container == name {
			end.Root = root
		}
	}
	return nil
}

// colonHint tells a missing container from a file of the host that has a colon in
// its name.
func colonHint(cmd *cobra.Command, args []string, err error) error {
	var missing *container.NotFoundError
	if !errors.As(err, &missing) {
		return err
	}
	for _, arg := range args {
		if _, statErr := os.Lstat(arg); statErr == nil && strings.HasPrefix(arg, missing.Name+":") {
			return UsageErrorf(cmd, "there is no container %q; the file of this name is %s", missing.Name, ui.ShellQuote("./"+arg))
		}
	}
	return err
}

// completeEnds offers containers, with the colon that follows, and files.
func (a *App) completeEnds(_ *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []cobra.Completion
	for _, name := range a.containersBut(nil) {
		if strings.HasPrefix(name, typed) {
			names = append(names, name+":")
		}
	}
	if len(names) == 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return names, cobra.ShellCompDirectiveNoSpace
}

// transferOptions are what copy, sync and clone share. The remaining time, which takes
// a look at the whole source first, is worth it where somebody watches.
func (a *App) transferOptions() transfer.Options {
	return transfer.Options{
		Report:     a.UI,
		Measure:    a.UI.ErrWidth() > 0 && a.UI.Level() == ui.Normal,
		NoProgress: a.UI.Level() == ui.Verbose,
	}
}

// dotted reports whether the last component of a path is "." or "..".
func dotted(name string) bool {
	last := path.Base(name)
	return last == "." || last == ".."
}

// count writes a number of things: "1 file", "3 files".
func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", many)
}
