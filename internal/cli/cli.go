// Package cli is the command line: one table of commands, one file a command.
//
// The table (table.go) is the only description of the commands: parsing, help,
// completions, man pages and the README's option tables all come from it. Every
// command's file has the same order: an options struct, a function that builds
// the command with its flags, and a function that runs it.
//
// To add a command, write such a file and add its name and constructor to the table.
// What every command shares is here too: the [App] it works with, exit codes
// (exit.go), what is said about an error (hints.go), signals (signals.go), the
// check of positionals and options (usage.go), and values for completion
// (complete.go).
//
// Nothing below this package prints or exits.
package cli

import (
	"context"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// Main runs the command line and returns the process's exit code.
func Main(args []string, stdin, stdout, stderr *os.File) int {
	app := newApp(args, stdin, stdout, stderr)
	if app.Termux() {
		useTermuxNetwork(app.host)
	}
	ctx, stop := app.watchSignals(context.Background())
	defer stop()
	err := app.run(ctx)
	if ctx.Err() != nil && err != nil && !passesThrough(err) {
		err = errAborted
	}
	if err != nil {
		app.present(err)
	}
	if outErr := app.UI.Close(); outErr != nil && err == nil {
		err = outErr
		app.present(err)
	}
	return exitCode(err)
}

func (a *App) run(ctx context.Context) error {
	rows := table
	if len(a.args) > 0 {
		rows = rowsFor(a.args[0])
	}
	root := newRoot(a, rows)
	root.SetArgs(append([]string{}, a.args...)) // nil would mean os.Args
	// cobra parses options even when it knows no such command; the command is
	// the error to report.
	if cmd, rest, _ := root.Find(a.args); cmd == root {
		if word := firstWord(rest); word != "" && !strings.HasPrefix(word, cobra.ShellCompRequestCmd) {
			return a.unknownCommand(root, word)
		}
	}
	return root.ExecuteContext(ctx)
}

// firstWord returns the first argument that is not an option; the program's own
// options take no values.
func firstWord(args []string) string {
	for _, arg := range args {
		if !strings.HasPrefix(arg, "-") || arg == "-" {
			return arg
		}
	}
	return ""
}
