package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"proot-distro/internal/container"
	"proot-distro/internal/platform"
	"proot-distro/internal/ui"
)

type psOptions struct {
	quiet, json bool
}

func newPsCommand(a *App) *cobra.Command {
	var o psOptions
	cmd := &cobra.Command{
		Use:   "ps [OPTIONS]",
		Short: "List running sessions",
		Long: "List what login and run have started and is still running, background processes included. With --json it is an " +
			"array of objects with pid, container, started (RFC 3339), user, command (an array), engine, architecture and detached.",
		Example:     "pd ps",
		Annotations: map[string]string{harmless: "true"},
		RunE:        func(*cobra.Command, []string) error { return runPs(a, o) },
	}
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "print process IDs only, one a line")
	cmd.Flags().BoolVar(&o.json, "json", false, "print all as JSON")
	cmd.MarkFlagsMutuallyExclusive("quiet", "json")
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
	if o.json {
		return a.printJSON(listSessions(sessions))
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

// listedSession is what is told of a session.
type listedSession struct {
	PID          int           `json:"pid"`
	Container    string        `json:"container"`
	Started      time.Time     `json:"started"`
	User         string        `json:"user"`
	Command      []string      `json:"command"`
	Engine       string        `json:"engine"`
	Architecture platform.Arch `json:"architecture"`
	Detached     bool          `json:"detached"`
}

func listSessions(sessions []container.Session) []listedSession {
	all := make([]listedSession, len(sessions))
	for i, s := range sessions {
		all[i] = listedSession{
			PID: s.PID, Container: s.Container, Started: s.Started, User: s.User,
			Command: s.Command, Engine: s.Engine, Architecture: s.Arch, Detached: s.Detached,
		}
	}
	return all
}
