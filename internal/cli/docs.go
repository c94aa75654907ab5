package cli

import (
	"io"
	"os"

	"github.com/spf13/cobra"

	"proot-distro/internal/ui"
)

// What the documentation generator needs of the table. It prints the same
// facts as the help text, for every host at once.

// Option is one option of a command.
type Option struct {
	Syntax string // "-n, --name NAME"
	Text   string // a sentence
	Termux bool   // exists on Termux only
}

// Table builds the command table as the documentation shows it: root, its
// commands below it, Termux's options included.
func Table() *cobra.Command {
	a := &App{
		Program: "proot-distro", documenting: true, Getenv: os.Getenv,
		UI: ui.New(ui.Config{Out: ui.Stream{Writer: io.Discard}, Err: ui.Stream{Writer: io.Discard}}),
	}
	return newRoot(a, table)
}

// Options lists the options of a command in their order.
func Options(cmd *cobra.Command) (options []Option) {
	general, termux := optionPairs(cmd)
	for _, p := range general {
		options = append(options, Option{Syntax: p[0], Text: p[1]})
	}
	for _, p := range termux {
		options = append(options, Option{Syntax: p[0], Text: p[1], Termux: true})
	}
	return options
}

// Synopsis is how a command is called: "proot-distro install [OPTIONS] IMAGE".
func Synopsis(cmd *cobra.Command) string {
	if cmd.HasParent() {
		return cmd.Root().Name() + " " + cmd.Use
	}
	return cmd.Use
}

// Description is a command's long text: paragraphs between blank lines.
func Description(cmd *cobra.Command) string { return longOf(cmd) }
