package cli

import (
	"github.com/spf13/cobra"

	"proot-distro/internal/engine"
	"proot-distro/internal/session"
)

func newLoginCommand(a *App) *cobra.Command {
	var o sessionOptions
	cmd := &cobra.Command{
		Use:   "login [OPTIONS] CONTAINER [-- COMMAND ...]",
		Short: "Start a shell inside a container",
		Long: "Start a login shell in a container, or run COMMAND in one. The command arrives as it was given, " +
			"quoting included. Of the host's environment the guest sees TERM and COLORTERM only.",
		Example: "pd login debian\n\n# As another user\npd login debian --user alice\n\n" +
			"# One command\npd login debian -- apt-get update\n\n" +
			"# A line of shell\npd login debian -- sh -c 'ls /etc | wc -l'\n\n" +
			"# Share the current directory\npd login debian --bind .:/work --work-dir /work",
		ValidArgsFunction: a.completeContainer,
		RunE: func(cmd *cobra.Command, args []string) error {
			own, inner := splitInner(cmd, args)
			o.command = inner
			return runLogin(a, o, own[0])
		},
	}
	a.sessionFlags(cmd, &o)
	return cmd
}

func runLogin(a *App, o sessionOptions, name string) error {
	return a.runSession(sessionRequest{
		verb: "login", container: name, options: o,
		compose: func(s *session.Session, wishes session.Options) (engine.Spec, error) {
			return s.Login(wishes, o.command)
		},
	})
}
