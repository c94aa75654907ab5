package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"proot-distro/internal/transfer"
	"proot-distro/internal/ui"
)

type syncOptions struct {
	checksum, delete bool
}

func newSyncCommand(a *App) *cobra.Command {
	var o syncOptions
	cmd := &cobra.Command{
		Use:   "sync [OPTIONS] [CONTAINER:]SRC [CONTAINER:]DEST",
		Short: "Synchronize files to or from a container",
		Long: "Make DEST like SRC, on the host or in a container, and copy only what differs in size or in " +
			"modification time. Directories are always synchronized with all that is in them.\n\n" +
			"Links are copied as they are, but for one named as SRC that leads to a directory or leaves a " +
			"container. Hard links become files of their own. Devices, FIFOs and sockets are skipped. Modes and " +
			"modification times are kept, the owner is not, and what leaves a container loses its setuid bit. A file is replaced in one step, so that it is never " +
			"found half-written.",
		Example: "# Into a container\npd sync ./app ubuntu:/opt/app\n\n" +
			"# Out of a container\npd sync ubuntu:/etc ./backup/etc\n\n" +
			"# Compare contents\npd sync --checksum ./data ubuntu:/data\n\n" +
			"# Delete what the source does not have\npd sync --delete ./app ubuntu:/opt/app",
		ValidArgsFunction: a.completeEnds,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runSync(cmd, a, o, args)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.checksum, "checksum", "c", false, "compare size and CRC32 instead of size and modification time")
	f.BoolVarP(&o.delete, "delete", "d", false, "delete what a source directory does not have from the destination")
	a.verboseFlags(cmd, "each synchronized or deleted entry")
	return cmd
}

func runSync(cmd *cobra.Command, a *App, o syncOptions, args []string) (err error) {
	e, err := a.openEnds(cmd, args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	result, err := transfer.Sync(cmd.Context(), e.from, e.to, transfer.SyncOptions{
		Options: a.transferOptions(), Checksum: o.checksum, Delete: o.delete,
	})
	if err != nil {
		return err
	}
	text := count(result.Copied, "file", "files") + " copied (" + ui.Size(result.Bytes) + ")"
	if o.delete {
		text += ", " + count(result.Deleted, "entry", "entries") + " deleted"
	}
	a.UI.Infof("Synchronized %s: %s, %d up to date.", e.to, text, result.Same)
	return nil
}
