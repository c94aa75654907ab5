package cli

import "github.com/spf13/cobra"

func newHelpCommand(a *App) *cobra.Command {
	return &cobra.Command{
		Use:               "help [COMMAND]",
		Short:             "Explain a command",
		Long:              "Explain a command, or list all of them.",
		Example:           "pd help install",
		Annotations:       map[string]string{harmless: "true"},
		ValidArgsFunction: a.completeCommands,
		RunE:              func(cmd *cobra.Command, args []string) error { return runHelp(a, cmd, args) },
	}
}

func runHelp(a *App, cmd *cobra.Command, args []string) error {
	root := cmd.Root()
	if len(args) == 0 {
		a.printHelp(root)
		return nil
	}
	topic, _, err := root.Find(args)
	if err != nil || topic == root {
		return a.unknownCommand(root, args[0])
	}
	a.printHelp(topic)
	return nil
}
