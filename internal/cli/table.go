package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A row is a command: its name, with others that it has behind, and what builds it.
type row struct {
	names string
	build func(*App) *cobra.Command
}

// table lists every command in the order of the help text.
var table = []row{
	{"install add i in ins", newInstallCommand},
	{"login sh", newLoginCommand},
	{"run", newRunCommand},
	{"exec", newExecCommand},
	{"list li ls", newListCommand},
	{"remove rm", newRemoveCommand},
	{"backup bak bkp", newBackupCommand},
	{"restore", newRestoreCommand},
	{"rename", newRenameCommand},
	{"reset", newResetCommand},
	{"copy cp", newCopyCommand},
	{"sync", newSyncCommand},
	{"clone", newCloneCommand},
	{"build", newBuildCommand},
	{"pull", newPullCommand},
	{"push", newPushCommand},
	{"tag", newTagCommand},
	{"clear-cache clear cl", newClearCacheCommand},
	{"ps", newPsCommand},
	{"kill", newKillCommand},
	{"search", newSearchCommand},
	{"doctor", newDoctorCommand},
	{"help h he hel", newHelpCommand},
	{"completion", newCompletionCommand},
}

// harmless annotates commands that change nothing: root is not warned.
const harmless = "harmless"

const summary = "Run Linux containers without root, from Docker and OCI images"

// rowsFor returns the one row that a command line starting with word needs, or the whole table. Building
// all commands would take longer than most of what happens before a guest starts.
func rowsFor(word string) []row {
	for i, r := range table {
		names := strings.Fields(r.names)
		if slices.Contains(names, word) && !slices.Contains(aboutOthers, names[0]) {
			return table[i : i+1]
		}
	}
	return table
}

// aboutOthers are the commands that look at the whole table.
var aboutOthers = []string{"help", "completion"}

// newRoot builds the commands of rows.
func newRoot(a *App, rows []row) *cobra.Command {
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
	for _, r := range rows {
		cmd := r.build(a)
		cmd.Aliases = strings.Fields(r.names)[1:]
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
