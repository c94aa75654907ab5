package cli

import (
	"github.com/spf13/cobra"

	"proot-distro/internal/engine"
	"proot-distro/internal/session"
)

func newRunCommand(a *App) *cobra.Command {
	var o sessionOptions
	cmd := &cobra.Command{
		Use:   "run [OPTIONS] CONTAINER [-- ARG ...]",
		Short: "Run the command that a container's image defines",
		Long: "Run the Entrypoint and Cmd of the image that a container was installed from, as docker run does: " +
			"ARGs replace Cmd, and the image's User and WorkingDir hold unless options say otherwise.",
		Example: "pd run hello-world\n\n# Arguments replace the image's Cmd\npd run debian -- /bin/echo hi\n\n" +
			"# In the background\npd run --detach web",
		ValidArgsFunction: a.completeContainer,
		RunE: func(cmd *cobra.Command, args []string) error {
			own, inner := splitInner(cmd, args)
			o.command = inner
			return runRun(a, o, own[0])
		},
	}
	a.sessionFlags(cmd, &o)
	return cmd
}

func runRun(a *App, o sessionOptions, name string) error {
	return a.runSession(sessionRequest{
		verb: "run", container: name, options: o,
		compose: func(s *session.Session, wishes session.Options) (engine.Spec, error) {
			return s.Run(wishes, o.command)
		},
	})
}
