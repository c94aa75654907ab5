package cli

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"proot-distro/internal/archive"
	"proot-distro/internal/engine/native"
	"proot-distro/internal/ui"
)

type restoreOptions struct {
	name      string
	nameGiven bool
}

func newRestoreCommand(a *App) *cobra.Command {
	var o restoreOptions
	cmd := &cobra.Command{
		Use:   "restore [OPTIONS] [BACKUP_FILE]",
		Short: "Restore containers from a backup",
		Long: "Make the containers that a backup holds, from a file or from standard input; how it is compressed is " +
			"seen from its content. A container of the same name keeps what it has until the whole archive is read, " +
			"and is then replaced.",
		Example: "pd restore ubuntu.tar.xz\n\n# Under another name\npd restore --name old-ubuntu ubuntu.tar.xz\n\n" +
			"# Through another command\ngpg -d ubuntu.tar.gpg | pd restore",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.nameGiven = cmd.Flags().Changed("name")
			return runRestore(cmd, a, o, args)
		},
	}
	cmd.Flags().StringVarP(&o.name, "name", "n", "", "call the container `NAME`; for archives with a single one")
	a.usernsFlag(cmd, "keep owners with full, or make all files yours with single: `IDS` (default: as they were archived)")
	a.verboseFlags(cmd, "each restored file")
	return cmd
}

func runRestore(cmd *cobra.Command, a *App, o restoreOptions, args []string) error {
	if o.nameGiven && o.name == "" {
		return UsageErrorf(cmd, "the name given with --name is empty")
	}
	source, size, err := a.openBackup(cmd, args)
	if err != nil {
		return err
	}
	defer source.Close()
	store, err := a.Store()
	if err != nil {
		return err
	}
	names, err := archive.Restore(cmd.Context(), archive.RestoreRequest{
		Source: source, Size: size, Name: o.name, Containers: a.host.Dirs.Containers(), Store: store, Report: a.UI,
		Owners: a.restoredOwners(), AllIDs: native.HasAllIDs(),
	})
	for _, name := range names {
		a.UI.Infof("Restored container '%s'.", name)
	}
	if len(args) > 0 && (errors.Is(err, archive.ErrNotBackup) || errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF)) {
		return &badBackupError{args[0], err}
	}
	return err
}

// badBackupError: a file is damaged, or something else.
type badBackupError struct {
	file string
	error
}

func (e *badBackupError) Error() string { return ui.ShellQuote(e.file) + ": " + e.error.Error() }
func (e *badBackupError) Unwrap() error { return e.error }

// openBackup opens the named file, or standard input when there is none.
func (a *App) openBackup(cmd *cobra.Command, args []string) (f *os.File, size int64, err error) {
	if len(args) == 0 {
		if info, err := a.Stdin.Stat(); err == nil && info.Mode()&fs.ModeCharDevice != 0 {
			return nil, 0, UsageErrorf(cmd, "%s needs a BACKUP_FILE, or an archive on standard input", a.path(cmd))
		}
		return a.Stdin, 0, nil
	}
	if f, err = os.Open(args[0]); err != nil {
		return nil, 0, fmt.Errorf("open backup %s: %w", ui.ShellQuote(args[0]), errors.Unwrap(err))
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = errors.New("it is a directory")
	}
	if err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("open backup %s: %w", ui.ShellQuote(args[0]), err)
	}
	if info.Mode().IsRegular() {
		size = info.Size()
	}
	return f, size, nil
}
