package cli

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/spf13/cobra"

	"proot-distro/internal/archive"
	"proot-distro/internal/container"
	"proot-distro/internal/engine/native"
	"proot-distro/internal/ui"
)

// What --userns may say: all files of a container are the person's own, or they have owners, and
// the container's users are who they say they are. The latter takes user IDs of subuid(5), for its
// sessions and for whatever else touches its files.
const (
	usernsSingle = "single"
	usernsFull   = "full"
)

// usernsFlag adds --userns; usage says what it means to the command.
func (a *App) usernsFlag(cmd *cobra.Command, usage string) {
	cmd.Flags().StringVar(&a.userns, "userns", "", usage)
	_ = cmd.RegisterFlagCompletionFunc("userns", cobra.FixedCompletions(
		[]cobra.Completion{usernsSingle, usernsFull}, cobra.ShellCompDirectiveNoFileComp))
}

func (a *App) checkUserns(cmd *cobra.Command) error {
	switch {
	case a.userns == usernsFull && a.Termux():
		return UsageErrorf(cmd, "--userns full: Android does not let apps make namespaces")
	case a.userns == "", a.userns == usernsFull, a.userns == usernsSingle:
		return nil
	}
	return UsageErrorf(cmd, "--userns does not know %s: it takes single or full", ui.ShellQuote(a.userns))
}

// A namespaceError says that a command needs a user namespace that cannot be had.
type namespaceError struct {
	reason string // why it is needed
	error
}

func (e *namespaceError) Error() string { return e.reason + ": " + e.error.Error() }
func (e *namespaceError) Unwrap() error { return e.error }

// enterNamespace runs this command once more, as root over all the user IDs that the person has been
// granted, when it touches files that belong to such IDs. The error then is how that one ended.
func (a *App) enterNamespace(cmd *cobra.Command, args []string) error {
	if err := a.checkUserns(cmd); err != nil {
		return err
	}
	reason, err := a.needsAllIDs(cmd, args)
	switch {
	case err != nil || reason == "" || native.HasAllIDs():
		return err
	case reason == forLeftovers && native.CheckAllIDs() != nil:
		return nil // they stay, which is said
	}
	a.ReleaseSignals()
	status, err := native.Unshare(native.AllIDs, nil)
	if err == nil {
		return guestStatus(status)
	}
	err = &namespaceError{reason, err}
	if startsSession(cmd) {
		return SessionError(err)
	}
	return err
}

// forLeftovers is the reason of a command that could do without.
const forLeftovers = "files that an interrupted command has left have owners (--userns full)"

// needsAllIDs tells why a command needs all user IDs; "" when it does not.
func (a *App) needsAllIDs(cmd *cobra.Command, args []string) (reason string, err error) {
	names, touches := a.touched(cmd, args)
	switch {
	case !touches || a.Termux(): // where a guest could write what is asked here
		return "", nil
	case a.userns == usernsFull:
		return "--userns full", nil
	case a.userns == usernsSingle && startsSession(cmd):
		return "", nil // it is refused, or else changes that
	case cmd.Name() == "restore" && a.userns == "" && a.backupHasOwners(args):
		return "this backup is of a container with owners (--userns full)", nil
	}
	store, err := a.Store()
	if err != nil {
		return "", err
	}
	if cmd.Name() == "restore" {
		if names, err = a.replaceable(cmd, store); err != nil {
			return "", err
		}
	}
	if need, err := store.AllIDs(names...); need || err != nil {
		return "files of this container have owners (--userns full)", err
	}
	if need, err := store.StagedAllIDs(); need || err != nil {
		return forLeftovers, err
	}
	return "", nil
}

func startsSession(cmd *cobra.Command) bool { return cmd.Name() == "login" || cmd.Name() == "run" }

// touched tells whether a command reads or changes files of containers, if only of leftovers, and of
// which ones. Not among them is exec, whose session has the namespace already.
func (a *App) touched(cmd *cobra.Command, args []string) (names []string, touches bool) {
	switch cmd.Name() {
	case "install", "clear-cache", "restore":
		return nil, true
	case "login", "run", "backup", "rename", "reset", "clone":
		return args[:1], true
	case "list":
		if measured, _ := cmd.Flags().GetBool("size"); !measured {
			return nil, false
		}
		if store, err := a.Store(); err == nil {
			names, _ = store.Names()
		}
		return names, true
	case "remove":
		images, _ := cmd.Flags().GetBool("image")
		return args, !images
	case "copy", "sync":
		for _, arg := range args {
			if end, err := parseEnd(cmd, arg); err == nil && end.Container != "" {
				names = append(names, end.Container)
			}
		}
		return names, true
	}
	return nil, false
}

// replaceable are the containers that a backup may take the place of: which ones it holds is known
// when it was read.
func (a *App) replaceable(cmd *cobra.Command, store *container.Store) ([]string, error) {
	if name, _ := cmd.Flags().GetString("name"); name != "" {
		return []string{name}, nil
	}
	return store.Names()
}

// backupHasOwners looks into the backup, unless that can be read only once.
func (a *App) backupHasOwners(args []string) bool {
	f := a.Stdin
	if len(args) > 0 {
		info, err := os.Stat(args[0])
		if err != nil || !info.Mode().IsRegular() { // opening might wait
			return false
		}
		if f, err = os.Open(args[0]); err != nil {
			return false
		}
		defer f.Close()
	}
	at, err := f.Seek(0, io.SeekCurrent)
	return err == nil && archive.HasOwners(io.NewSectionReader(f, at, math.MaxInt64-at))
}

// restoredOwners is what --userns means to restore.
func (a *App) restoredOwners() archive.Owners {
	switch a.userns {
	case usernsFull:
		return archive.KeepOwners
	case usernsSingle:
		return archive.RootOwns
	}
	return archive.AsArchived
}

// recordUserns changes, before a session starts, what --userns asks for.
func (a *App) recordUserns(store *container.Store, req sessionRequest) (err error) {
	if a.userns == "" {
		return nil
	}
	full := a.userns == usernsFull
	wish, err := a.engineWish(req.options.engine)
	switch {
	case err != nil:
		return err
	case full && (wish == engineProot || req.options.getProotCmd):
		return &usageError{text: "--userns full is for the native engine; proot has no part in it"}
	}
	if was, err := store.AllIDs(req.container); err != nil || was == full {
		return err
	}
	c, err := store.Open(req.container, container.Exclusive, req.verb)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if !full {
		file, err := c.ForeignFile()
		if err != nil {
			return err
		}
		if file != "" {
			return &ownersError{c.Name, file}
		}
	}
	return c.SetAllIDs(full)
}

// ownersError: a container cannot do without the IDs that its files belong to.
type ownersError struct{ container, file string }

func (e *ownersError) Error() string {
	return fmt.Sprintf("container '%s' cannot go back to --userns single: %s belongs to another user", e.container, ui.ShellQuote(e.file))
}

// usernsHints say what to do when user IDs are missing or in the way.
func (a *App) usernsHints(err error) []string {
	var (
		denied  *namespaceError
		granted *native.FullMapError
		owner   *ownersError
	)
	switch {
	case errors.As(err, &granted):
		return []string{granted.Fix()}
	case errors.As(err, &denied):
		return []string{"Something forbids user namespaces here, such as a container, a chroot or a security policy: allow them."}
	case errors.As(err, &owner):
		name := ui.ShellQuote(owner.container)
		return []string{
			fmt.Sprintf("To make all files yours: %s backup %s --output FILE.tar, then %s restore --userns single FILE.tar", a.Program, name, a.Program),
			fmt.Sprintf("To start from scratch: %s reset --userns single %s", a.Program, name),
		}
	case errors.Is(err, archive.ErrOwners):
		return []string{"Say --userns full to keep them, or --userns single to make all files yours."}
	}
	return nil
}
