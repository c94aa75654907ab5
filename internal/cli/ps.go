package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"proot-distro/internal/ui"
)

type psOptions struct {
	quiet bool
}

func newPsCommand(a *App) *cobra.Command {
	var o psOptions
	cmd := &cobra.Command{
		Use:         "ps [OPTIONS]",
		Short:       "List running sessions",
		Long:        "List what login and run have started and is still running, background processes included.",
		Example:     "pd ps",
		Annotations: map[string]string{harmless: "true"},
		RunE:        func(*cobra.Command, []string) error { return runPs(a, o) },
	}
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "print process IDs only, one a line")
	return cmd
}

func runPs(a *App, o psOptions) error {
	store, err := a.Store()
	if err != nil {
		return err
	}
	sessions, err := store.Sessions()
	if err != nil {
		return err
	}
	t := ui.Table{
		Header:   []string{"PID", "CONTAINER", "UP", "USER", "COMMAND", "ENGINE", "ARCHITECTURE"},
		Flexible: []int{4, 1},
	}
	for _, s := range sessions {
		if o.quiet {
			a.UI.Line(fmt.Sprint(s.PID))
			continue
		}
		t.Rows = append(t.Rows, []string{
			fmt.Sprint(s.PID), s.Container, ui.Duration(time.Since(s.Started)), s.User,
			ui.ShellJoin(s.Command...), s.Engine, string(s.Arch),
		})
	}
	switch {
	case len(t.Rows) > 0:
		a.UI.Table(t)
	case !o.quiet:
		a.UI.Line("No session is running.")
	}
	return nil
}
