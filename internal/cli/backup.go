package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"proot-distro/internal/archive"
	"proot-distro/internal/compression"
	"proot-distro/internal/container"
	"proot-distro/internal/layer"
	"proot-distro/internal/ui"
)

type backupOptions struct {
	output   string
	compress string
}

// compressTypes are what --compress takes.
var compressTypes = map[string]compression.Format{
	"gzip": compression.Gzip, "bzip2": compression.Bzip2, "xz": compression.XZ,
	"lzma": compression.LZMA, "zstd": compression.Zstd, "none": compression.None,
}

func newBackupCommand(a *App) *cobra.Command {
	var o backupOptions
	cmd := &cobra.Command{
		Use:   "backup [OPTIONS] CONTAINER",
		Short: "Archive a container",
		Long: "Write a container into a tar archive, for restore. The ending of the file's name says how it is " +
			"compressed: .tar, .tar.gz, .tgz, .tar.bz2, .tbz2, .tar.xz, .txz, .tar.lzma, .tlzma, .tar.zst or .tzst. " +
			"Without --output the archive goes to standard output, uncompressed. Everything in it belongs to root, " +
			"unless the container's files have owners (--userns full); devices, FIFOs and sockets are left out. Sessions may go on meanwhile.",
		Example: "pd backup ubuntu --output ubuntu.tar.zst\n\n# Through another command\n" +
			"pd backup ubuntu | gpg -c > ubuntu.tar.gpg",
		ValidArgsFunction: a.completeContainer,
		RunE:              func(cmd *cobra.Command, args []string) error { return runBackup(cmd, a, o, args[0]) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.output, "output", "o", "", "write to `FILE`, which must not exist yet")
	f.StringVarP(&o.compress, "compress", "c", "", "compress as `TYPE`, whatever the name says: gzip, bzip2, xz, lzma, zstd or none")
	_ = cmd.MarkFlagFilename("output")
	_ = cmd.RegisterFlagCompletionFunc("compress", cobra.FixedCompletions(
		[]cobra.Completion{"gzip", "bzip2", "xz", "lzma", "zstd", "none"}, cobra.ShellCompDirectiveNoFileComp))
	a.verboseFlags(cmd, "each archived file")
	return cmd
}

func runBackup(cmd *cobra.Command, a *App, o backupOptions, name string) error {
	format, err := backupFormat(cmd, o)
	if err != nil {
		return err
	}
	if o.output == "" && ui.IsTerminal(a.Stdout) {
		return UsageErrorf(cmd, "an archive is not written to a terminal: redirect the output, or name a file with --output")
	}
	store, err := a.Store()
	if err != nil {
		return err
	}
	c, err := store.Open(name, container.Shared, "backup")
	if err != nil {
		return err
	}
	defer c.Close()
	stats, err := a.writeBackup(cmd.Context(), archive.BackupRequest{Container: c, Format: format, Report: a.UI}, o.output)
	if errors.Is(err, archive.ErrExists) {
		return fmt.Errorf("the file %s exists already, and a backup replaces nothing: choose another name", ui.ShellQuote(o.output))
	}
	if err != nil {
		return err
	}
	a.UI.Infof("Archived '%s': %s (%s).", name, count(int64(stats.Entries), "entry", "entries"), ui.Size(stats.Bytes))
	if stats.Unreadable > 0 {
		return fmt.Errorf("the archive lacks %s that could not be read", count(int64(stats.Unreadable), "entry", "entries"))
	}
	return nil
}

func (a *App) writeBackup(ctx context.Context, req archive.BackupRequest, file string) (stats layer.ArchiveStats, err error) {
	if file == "" {
		return archive.Backup(ctx, req, a.Stdout)
	}
	err = archive.WriteFile(file, func(w io.Writer) error {
		stats, err = archive.Backup(ctx, req, w)
		return err
	})
	return stats, err
}

// backupFormat is the one asked for, or else what the file's name says.
func backupFormat(cmd *cobra.Command, o backupOptions) (compression.Format, error) {
	if o.compress != "" {
		format, ok := compressTypes[strings.ToLower(o.compress)]
		if !ok {
			return 0, UsageErrorf(cmd, "--compress does not know %s: it takes gzip, bzip2, xz, lzma, zstd or none", ui.ShellQuote(o.compress))
		}
		return format, nil
	}
	if o.output == "" {
		return compression.None, nil
	}
	format, ok := compression.FromName(o.output)
	if !ok {
		return 0, UsageErrorf(cmd, "the name %s does not say how to compress: end it in .tar, .tar.gz, .tar.bz2, .tar.xz, "+
			".tar.lzma or .tar.zst, or use --compress", ui.ShellQuote(o.output))
	}
	return format, nil
}
