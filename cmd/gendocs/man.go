package main

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"proot-distro/internal/cli"
)

// man writes one page in the macros of man(7).
type man struct{ bytes.Buffer }

// manPages returns the pages of section 1 by file name: the program's, one for
// each command, and a pointer for the short name.
func manPages(root *cobra.Command) map[string][]byte {
	pages := map[string][]byte{
		root.Name() + ".1": mainPage(root),
		"pd.1":             []byte(".so man1/" + root.Name() + ".1\n"),
	}
	for _, cmd := range commandsOf(root) {
		pages[pageName(cmd)+".1"] = commandPage(cmd)
	}
	return pages
}

func pageName(cmd *cobra.Command) string {
	if cmd.HasParent() {
		return cmd.Root().Name() + "-" + cmd.Name()
	}
	return cmd.Name()
}

func mainPage(root *cobra.Command) []byte {
	var m man
	m.head(root)
	m.section("COMMANDS")
	for _, cmd := range commandsOf(root) {
		m.term(fmt.Sprintf(`\fB%s\fP(1)`, escape(pageName(cmd))), cmd.Short+".")
	}
	m.options(root)
	m.table("EXIT STATUS", cli.ExitCodes())
	m.table("ENVIRONMENT", environment)
	m.table("FILES", files)
	m.section("SEE ALSO")
	m.line(`.BR proot (1)`)
	return m.Bytes()
}

func commandPage(cmd *cobra.Command) []byte {
	var m man
	m.head(cmd)
	if len(cmd.Aliases) > 0 {
		m.section("ALIASES")
		m.text(strings.Join(cmd.Aliases, ", "))
	}
	m.options(cmd)
	if cmd.Example != "" {
		m.section("EXAMPLES")
		m.examples(cmd)
	}
	m.section("SEE ALSO")
	m.line(fmt.Sprintf(".BR %s (1)", escape(cmd.Root().Name())))
	m.text("for exit codes, environment variables and files.")
	return m.Bytes()
}

func (m *man) head(cmd *cobra.Command) {
	m.line(fmt.Sprintf(`.TH "%s" "1" "" "proot-distro" "User Commands"`, escape(strings.ToUpper(pageName(cmd)))))
	// No hyphenation and no filled margins: names must stay whole.
	m.line(".nh\n.ad l")
	m.section("NAME")
	m.line(escape(pageName(cmd)) + ` \- ` + escape(lowerFirst(cmd.Short)))
	m.section("SYNOPSIS")
	name, rest, _ := strings.Cut(cli.Synopsis(cmd), " ")
	m.line(`\fB` + escape(name) + `\fP ` + escape(rest))
	m.section("DESCRIPTION")
	for i, p := range strings.Split(cli.Description(cmd), "\n\n") {
		if i > 0 {
			m.line(".PP")
		}
		m.text(p)
	}
}

func (m *man) options(cmd *cobra.Command) {
	m.section("OPTIONS")
	for _, o := range cli.Options(cmd) {
		text := o.Text
		if o.Termux {
			text += " Termux only."
		}
		m.term(boldOptions(o.Syntax), text)
	}
}

// boldOptions sets options bold and their values in italics.
func boldOptions(syntax string) string {
	words := strings.Fields(syntax)
	for i, w := range words {
		name, comma := strings.CutSuffix(w, ",")
		font := `\fI`
		if strings.HasPrefix(w, "-") {
			font = `\fB`
		}
		words[i] = font + escape(name) + `\fP`
		if comma {
			words[i] += ","
		}
	}
	return strings.Join(words, " ")
}

// examples shows each command line as it is typed, under its comment.
func (m *man) examples(cmd *cobra.Command) {
	inCode := false
	code := func(on bool) {
		if on != inCode {
			m.line(map[bool]string{true: ".RS 4\n.nf", false: ".fi\n.RE"}[on])
			inCode = on
		}
	}
	for _, line := range strings.Split(strings.TrimSpace(cmd.Example), "\n") {
		switch line = strings.TrimSpace(line); {
		case line == "":
			code(false)
			m.line(".PP")
		case strings.HasPrefix(line, "#"):
			code(false)
			m.text(strings.TrimSpace(line[1:]) + ":")
		default:
			if rest, ok := strings.CutPrefix(line, "pd "); ok {
				line = cmd.Root().Name() + " " + rest
			}
			code(true)
			m.text(line)
		}
	}
	code(false)
}

func (m *man) table(title string, rows [][2]string) {
	m.section(title)
	for _, row := range rows {
		m.term(`\fB`+escape(row[0])+`\fP`, row[1])
	}
}

func (m *man) section(title string) { m.line(`.SH "` + title + `"`) }

func (m *man) term(tag, text string) {
	m.line(".TP\n" + tag)
	m.text(text)
}

func (m *man) text(s string) { m.line(escape(s)) }

func (m *man) line(s string) { m.WriteString(s + "\n") }

// escape makes text literal: backslashes, minus signs that people copy, quotes
// that roff would curl, and a dot or quote at the start of a line.
func escape(s string) string {
	s = strings.NewReplacer(
		`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, `"`, `\(dq`,
		"…", "...", "→", `\(->`, "–", `\(en`,
	).Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }
