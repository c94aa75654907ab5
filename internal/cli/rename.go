package cli

import (
	"context"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func newRenameCommand(a *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rename [OPTIONS] OLDNAME NEWNAME",
		Short: "Rename a container",
		Long: "Give a container another name. On Termux, where hard links inside containers are emulated by symbolic " +
			"links, all of these are rewritten, which may take a while; Ctrl-C has to wait until it is done. A " +
			"container in which a session runs is not renamed.",
		Example:           "pd rename ubuntu my-ubuntu",
		ValidArgsFunction: a.completeContainer,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runRename(cmd.Context(), a, args[0], args[1])
		},
	}
	a.quietFlag(cmd)
	return cmd
}

func runRename(ctx context.Context, a *App, oldname, newname string) error {
	store, err := a.Store()
	if err != nil {
		return err
	}
	release := a.holdSignals("The links of the container are being rewritten; please wait until that is done.")
	err = context.Cause(ctx)
	if err == nil {
		err = store.Rename(oldname, newname, "rename")
	}
	release()
	if err == nil {
		a.UI.Infof("Renamed container '%s' to '%s'.", oldname, newname)
	}
	return err
}

// holdSignals answers Ctrl-C and Ctrl-\ with a warning, in place of ending the command, for
// the time of work that is better not left half-done. The returned function ends that.
func (a *App) holdSignals(warning string) (release func()) {
	held, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(held, unix.SIGINT, unix.SIGQUIT)
	a.ReleaseSignals() // only now: at no moment do they have their usual effect
	signal.Reset(unix.SIGTERM, unix.SIGHUP)
	go func() {
		defer close(done)
		for range held {
			a.UI.Warnf("%s", warning)
		}
	}()
	return func() {
		signal.Stop(held)
		close(held)
		<-done
	}
}
