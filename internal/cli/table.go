package cli

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// table lists every command in the order of the help text.
var table = []func(*App) *cobra.Command{
	newInstallCommand,
	newLoginCommand,
	newRunCommand,
	newExecCommand,
	newListCommand,
	newRemoveCommand,
	newBackupCommand,
	newRestoreCommand,
	newRenameCommand,
	newResetCommand,
	newCopyCommand,
	newSyncCommand,
	newCloneCommand,
	newBuildCommand,
	newPullCommand,
	newPushCommand,
	newTagCommand,
	newClearCacheCommand,
	newPsCommand,
	newKillCommand,
	newSearchCommand,
	newDoctorCommand,
	newHelpCommand,
	newCompletionCommand,
}

// harmless annotates commands that change nothing: root is not warned.
const harmless = "harmless"

const summary = "Run Linux containers without root, from Docker and OCI images"

// newRoot builds the whole table.
func newRoot(a *App) *cobra.Command {
	root := &cobra.Command{
		Use:               "proot-distro COMMAND [OPTIONS]",
		Short:             summary,
		Long:              summary + ", on Termux and on any Linux.",
		Args:              cobra.ArbitraryArgs, // App.run has seen to unknown commands
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE:              a.runRoot,
		PersistentPreRunE: a.before,
	}
	root.SetOut(a.Stdout)
	root.SetErr(a.Stderr)
	root.SetFlagErrorFunc(a.flagError)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { a.printHelp(cmd) })
	root.Flags().BoolP("help", "h", false, "print this help")
	root.Flags().Bool("version", false, "print the version")
	root.Flags().SortFlags = false
	for _, build := range table {
		cmd := build(a)
		cmd.Flags().SortFlags = false
		cmd.Flags().BoolP("help", "h", false, "print this help")
		if cmd.Args == nil {
			cmd.Args = a.checkPositionals
		}
		if cmd.Name() == "help" {
			root.SetHelpCommand(cmd)
		}
		a.commands = append(a.commands, cmd)
		root.AddCommand(cmd)
	}
	root.SetGlobalNormalizationFunc(canonicalFlag)
	return root
}

// canonicalFlag maps other spellings of options to their names.
func canonicalFlag(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	switch name {
	case "usage":
		name = "help"
	case "override-alias": // the name of install --name in older versions
		name = "name"
	}
	return pflag.NormalizedName(name)
}

func (a *App) runRoot(cmd *cobra.Command, _ []string) error {
	if wanted, _ := cmd.Flags().GetBool("version"); wanted {
		a.UI.Line("proot-distro " + Version())
		return nil
	}
	a.printHelp(cmd)
	return nil
}

// before runs ahead of every command.
func (a *App) before(cmd *cobra.Command, args []string) error {
	if err := a.checkFlags(cmd); err != nil {
		return err
	}
	a.command = cmd.Name()
	a.UI.SetLevel(a.verbosity())
	if cmd.HasParent() && cmd.Annotations[harmless] == "" {
		a.warnRoot()
	}
	own, _ := splitInner(cmd, args)
	return a.enterNamespace(cmd, own)
}

// quietFlag adds --quiet as most commands mean it.
func (a *App) quietFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&a.quiet, "quiet", "q", false, "print errors and warnings only")
}

// verboseFlags adds --verbose and --quiet; entries is what is listed.
func (a *App) verboseFlags(cmd *cobra.Command, entries string) {
	cmd.Flags().BoolVarP(&a.verbose, "verbose", "v", false, "name "+entries)
	a.quietFlag(cmd)
	cmd.MarkFlagsMutuallyExclusive("verbose", "quiet")
}
