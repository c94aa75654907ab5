package cli

import (
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"

	"proot-distro/internal/container"
	"proot-distro/internal/transfer"
	"proot-distro/internal/ui"
)

func newCloneCommand(a *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "clone [OPTIONS] CONTAINER NEW",
		Short: "Make a copy of a container",
		Long: "Make a container called NEW that is a copy of CONTAINER, files and image record. Where the file " +
			"system can, both share the space of what is the same. Sessions may run in CONTAINER meanwhile, but what " +
			"they change during the copy may come out half-done.",
		Example:           "# Try something, and keep the original\npd clone debian experiment",
		ValidArgsFunction: a.completeContainer,
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == args[1] {
				return UsageErrorf(cmd, "the copy needs another name than %s", ui.ShellQuote(args[0]))
			}
			return runClone(cmd, a, args[0], args[1])
		},
	}
	a.verboseFlags(cmd, "each copied file")
	return cmd
}

func runClone(cmd *cobra.Command, a *App, name, newName string) (err error) {
	if err := container.ValidateName(newName); err != nil {
		return err
	}
	store, err := a.Store()
	if err != nil {
		return err
	}
	old, err := store.Open(name, container.Shared, "clone")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	draft, err := store.Create(newName, "clone")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, draft.Close()) }()
	result, err := a.fillClone(cmd, old, draft)
	// What could not be read is missing in the copy, which is there all the same.
	var incomplete *transfer.IncompleteError
	if err != nil && !errors.As(err, &incomplete) {
		return err
	}
	if commitErr := draft.Commit(); commitErr != nil {
		return commitErr
	}
	a.UI.Infof("Cloned '%s' to '%s': %s (%s).", name, newName, count(result.Copied, "file", "files"), ui.Size(result.Bytes))
	a.reportSkipped(result)
	if err == nil {
		a.UI.Infof("Start shell: %s login %s", a.Program, ui.ShellQuote(newName))
	}
	return err
}

// fillClone copies the root filesystem and the record.
func (a *App) fillClone(cmd *cobra.Command, old, draft *container.Container) (result transfer.Result, err error) {
	from, err := old.Rootfs()
	if err != nil {
		return result, err
	}
	defer from.Close()
	to, err := draft.Rootfs()
	if err != nil {
		return result, err
	}
	defer to.Close()
	if old.AllIDs() {
		if err := draft.SetAllIDs(true); err != nil {
			return result, err
		}
	}
	record, err := old.Record()
	if err == nil {
		err = draft.SetRecord(record)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return result, err
	}
	return transfer.Clone(cmd.Context(),
		transfer.End{Container: old.Name, Root: from}, transfer.End{Container: draft.Name, Root: to},
		transfer.CloneOptions{
			Options: a.transferOptions(),
			NewRoot: filepath.Join(a.host.Dirs.Containers(), draft.Name, "rootfs"),
		})
}
