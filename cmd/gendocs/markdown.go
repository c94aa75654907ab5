package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"proot-distro/internal/cli"
)

// A README marks the place of each table:
//
//	<!-- options:install -->
//	…
//	<!-- /options -->
var optionsBlock = regexp.MustCompile(`(?s)(<!-- options:([a-z-]+) -->\n).*?(<!-- /options -->)`)

// withOptionTables returns a README with its tables brought up to date.
func withOptionTables(root *cobra.Command, readme []byte) ([]byte, error) {
	var failed error
	text := optionsBlock.ReplaceAllFunc(readme, func(block []byte) []byte {
		parts := optionsBlock.FindSubmatch(block)
		cmd, _, err := root.Find([]string{string(parts[2])})
		if err != nil || cmd == root {
			failed = fmt.Errorf("there is no command %q", parts[2])
			return block
		}
		return bytes.Join([][]byte{parts[1], optionTable(cmd), parts[3]}, nil)
	})
	return text, failed
}

// optionTable is a Markdown table of a command's options.
func optionTable(cmd *cobra.Command) []byte {
	var b bytes.Buffer
	b.WriteString("\n| Option | Effect |\n|---|---|\n")
	escape := strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`)
	for _, o := range cli.Options(cmd) {
		text := escape.Replace(o.Text)
		if o.Termux {
			text += " Termux only."
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", strings.ReplaceAll(o.Syntax, "|", `\|`), text)
	}
	b.WriteByte('\n')
	return b.Bytes()
}
