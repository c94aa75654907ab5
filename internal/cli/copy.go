package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"proot-distro/internal/transfer"
	"proot-distro/internal/ui"
)

type copyOptions struct {
	recursive, move bool
}

func newCopyCommand(a *App) *cobra.Command {
	var o copyOptions
	cmd := &cobra.Command{
		Use:   "copy [OPTIONS] [CONTAINER:]SRC [CONTAINER:]DEST",
		Short: "Copy files to or from a container",
		Long: "Copy files between the host and a container, or between two containers. A path in a container " +
			"follows the container's name and a colon: ubuntu:/etc/resolv.conf; a path of the host that has a colon " +
			"begins with / or ./ instead. If DEST is a directory, the copy comes into it.\n\n" +
			"Modes and modification times are kept, the owner is not, and what leaves a container loses its setuid bit. Devices, FIFOs and sockets are skipped. Links " +
			"inside of directories are copied as they are. One that is named as SRC is followed, as the guest " +
			"would; with --move, or with --recursive unless it leaves a container, the link itself is copied. The directories " +
			". and .. can be SRC, but not DEST.",
		Example: "# Into a container\npd copy ./file.txt ubuntu:/root/file.txt\n\n" +
			"# Out of a container\npd copy ubuntu:/etc/resolv.conf ./resolv.conf.bak\n\n" +
			"# Between two containers\npd copy arch:/etc/pacman.conf ubuntu:/tmp/pacman.conf\n\n" +
			"# A directory\npd copy --recursive ./myapp ubuntu:/opt/myapp",
		ValidArgsFunction: a.completeEnds,
		RunE: func(cmd *cobra.Command, args []string) error {
			if to, err := parseEnd(cmd, args[1]); err == nil && dotted(to.Path) {
				return UsageErrorf(cmd, "%s cannot be the destination: write the directory's name", ui.ShellQuote(args[1]))
			}
			return runCopy(cmd, a, o, args)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.recursive, "recursive", "r", false, "copy directories with their content, and links as they are")
	f.BoolVarP(&o.move, "move", "m", false, "delete the source after it was copied")
	a.verboseFlags(cmd, "each copied file")
	return cmd
}

func runCopy(cmd *cobra.Command, a *App, o copyOptions, args []string) (err error) {
	e, err := a.openEnds(cmd, args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	result, err := transfer.Copy(cmd.Context(), e.from, e.to, transfer.CopyOptions{
		Options: a.transferOptions(), Recursive: o.recursive, Move: o.move,
	})
	if err != nil {
		return err
	}
	switch {
	case result.Renamed:
		a.UI.Infof("Moved %s to %s.", e.from, e.to)
	case o.move:
		a.UI.Infof("Moved %s (%s) to %s.", e.from, ui.Size(result.Bytes), e.to)
	default:
		a.UI.Infof("Copied %s (%s) to %s.", count(result.Copied, "file", "files"), ui.Size(result.Bytes), e.to)
	}
	a.reportSkipped(result)
	return nil
}

// reportSkipped says what was left out on purpose.
func (a *App) reportSkipped(r transfer.Result) {
	if r.Skipped > 0 {
		a.UI.Infof("Skipped %s: devices, FIFOs and sockets are not copied.", count(r.Skipped, "special file", "special files"))
	}
}
