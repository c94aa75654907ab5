package cli

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"proot-distro/internal/ui"
)

// Widths of help text, in columns.
const (
	minHelpWidth = 32
	maxHelpWidth = 92
	stackBelow   = 60 // narrower, what an option does stands below it
)

// printHelp writes a command's help for the width of the terminal.
func (a *App) printHelp(cmd *cobra.Command) {
	h := &helpText{app: a, width: a.helpWidth()}
	h.page(cmd)
	a.UI.Print(h.String())
}

func (a *App) helpWidth() int {
	width := a.UI.Width()
	if width == 0 {
		width, _ = strconv.Atoi(os.Getenv("COLUMNS"))
	}
	if width <= 0 {
		width = 80
	}
	return min(max(width, minHelpWidth), maxHelpWidth)
}

// helpText lays one page out.
type helpText struct {
	strings.Builder
	app   *App
	width int
}

func (h *helpText) page(cmd *cobra.Command) {
	h.usage(cmd)
	if len(cmd.Aliases) > 0 {
		h.wrap("Aliases: "+strings.Join(cmd.Aliases, ", "), 0, 9)
	}
	h.WriteByte('\n')
	h.paragraphs(longOf(cmd))
	if !cmd.HasParent() {
		h.heading("Commands")
		h.pairs(h.commandPairs())
	}
	general, termux := optionPairs(cmd)
	h.heading("Options")
	h.pairs(general)
	if len(termux) > 0 {
		h.heading("Options on Termux")
		h.pairs(termux)
	}
	if cmd.Example != "" {
		h.heading("Examples")
		h.examples(cmd.Example)
	}
	if !cmd.HasParent() {
		h.heading("Exit codes")
		h.pairs(ExitCodes())
		h.WriteByte('\n')
		h.wrap(fmt.Sprintf("Run '%s help COMMAND' for a command's options and examples.", h.app.Program), 0, 0)
	}
}

// usage writes the synopsis.
func (h *helpText) usage(cmd *cobra.Command) {
	_, rest, _ := strings.Cut(cmd.Use, " ")
	h.wrap("Usage: "+h.app.path(cmd)+" "+rest, 0, 4)
}

func (h *helpText) heading(title string) {
	h.WriteString("\n" + h.app.UI.Bold(title+":") + "\n")
}

// longOf is a command's description: paragraphs between blank lines.
func longOf(cmd *cobra.Command) string {
	if cmd.Long != "" {
		return cmd.Long
	}
	return cmd.Short + "."
}

func (h *helpText) paragraphs(text string) {
	for i, p := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			h.WriteByte('\n')
		}
		h.wrap(p, 0, 0)
	}
}

func (h *helpText) commandPairs() (pairs [][2]string) {
	for _, c := range h.app.commands {
		if !c.Hidden {
			pairs = append(pairs, [2]string{c.Name(), c.Short})
		}
	}
	return pairs
}

// optionPairs describes the options of cmd that are shown; those of Termux apart.
func optionPairs(cmd *cobra.Command) (general, termux [][2]string) {
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		pair := [2]string{optionSyntax(f), optionText(f)}
		if f.Annotations[annotationTermux] != nil {
			termux = append(termux, pair)
		} else {
			general = append(general, pair)
		}
	})
	return general, termux
}

// optionSyntax is "-n, --name NAME".
func optionSyntax(f *pflag.Flag) string {
	syntax := "--" + f.Name
	if f.Shorthand != "" {
		syntax = "-" + f.Shorthand + ", " + syntax
	}
	if value, _ := pflag.UnquoteUsage(f); value != "" && f.NoOptDefVal == "" {
		syntax += " " + value
	}
	return syntax
}

// optionText is what an option does, a full sentence.
func optionText(f *pflag.Flag) string {
	_, text := pflag.UnquoteUsage(f)
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// pairs writes terms and what they mean: side by side, or below each other on
// a narrow terminal.
func (h *helpText) pairs(pairs [][2]string) {
	column := 0
	for _, p := range pairs {
		column = max(column, ui.Columns(p[0]))
	}
	column = min(column, h.width*2/5) + 4
	for _, p := range pairs {
		switch {
		case h.width < stackBelow:
			h.wrap(p[0], 2, 4)
			h.wrap(p[1], 6, 6)
		case ui.Columns(p[0]) > column-4:
			h.wrap(p[0], 2, 4)
			h.wrap(p[1], column, column)
		default:
			h.wrapAfter("  "+ui.Pad(p[0], column-2), p[1], column)
		}
	}
}

// examples writes comments and command lines; a long command continues after a
// backslash, so that it can still be copied.
func (h *helpText) examples(text string) {
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
			h.WriteByte('\n')
		case strings.HasPrefix(line, "#"):
			h.fill(strings.Fields(line[1:]), "  # ", "  # ", "")
		default:
			if rest, ok := strings.CutPrefix(line, "pd "); ok {
				line = h.app.Program + " " + rest
			}
			h.fill(strings.Fields(line), "  ", "      ", ` \`)
		}
	}
}

// wrap writes text with the first line indented by first, the others by rest.
func (h *helpText) wrap(text string, first, rest int) {
	h.fill(strings.Fields(text), strings.Repeat(" ", first), strings.Repeat(" ", rest), "")
}

// wrapAfter writes text behind a lead that is as wide as the indent.
func (h *helpText) wrapAfter(lead, text string, indent int) {
	h.fill(strings.Fields(text), lead, strings.Repeat(" ", indent), "")
}

// fill breaks words into lines; tail ends each line but the last. A line is
// longer than the width only when a single word is.
func (h *helpText) fill(words []string, first, rest, tail string) {
	if len(words) == 0 {
		h.WriteString(strings.TrimRight(first, " ") + "\n")
		return
	}
	line := first + words[0]
	for i, word := range words[1:] {
		limit := h.width - len(tail)
		if i == len(words)-2 {
			limit = h.width // the last word needs no tail behind it
		}
		if ui.Columns(line)+1+ui.Columns(word) <= limit {
			line += " " + word
			continue
		}
		h.WriteString(line + tail + "\n")
		line = rest + word
	}
	h.WriteString(line + "\n")
}
