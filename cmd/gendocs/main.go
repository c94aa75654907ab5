// Command gendocs writes what is generated from the command table: man pages
// and shell completions, laid out for a prefix such as /usr/local, and the option
// tables of the README.
//
//	gendocs PREFIX
//	gendocs -readme README.md
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"proot-distro/internal/cli"
)

func main() {
	readme := flag.String("readme", "", "bring the option tables in `FILE` up to date")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: gendocs PREFIX | gendocs -readme README.md")
	}
	flag.Parse()
	var err error
	switch {
	case *readme != "" && flag.NArg() == 0:
		err = updateReadme(*readme)
	case *readme == "" && flag.NArg() == 1:
		err = writeAll(flag.Arg(0))
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}

// writeAll writes man pages and completions below a prefix.
func writeAll(prefix string) error {
	root := cli.Table()
	for name, text := range manPages(root) {
		if err := write(filepath.Join(prefix, "share/man/man1", name), text); err != nil {
			return err
		}
	}
	// Shells look a command's completions up by its name; zsh reads the names
	// in the file.
	for path, shell := range map[string]string{
		"share/bash-completion/completions/proot-distro":    "bash",
		"share/bash-completion/completions/pd":              "bash",
		"share/zsh/site-functions/_proot-distro":            "zsh",
		"share/fish/vendor_completions.d/proot-distro.fish": "fish",
		"share/fish/vendor_completions.d/pd.fish":           "fish",
	} {
		var script bytes.Buffer
		if err := cli.WriteCompletion(&script, root, shell); err != nil {
			return err
		}
		if err := write(filepath.Join(prefix, path), script.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

func write(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}

// commandsOf lists the commands that people see.
func commandsOf(root *cobra.Command) (cmds []*cobra.Command) {
	for _, c := range root.Commands() {
		if !c.Hidden {
			cmds = append(cmds, c)
		}
	}
	return cmds
}

func updateReadme(path string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, err := withOptionTables(cli.Table(), old)
	if err != nil {
		return fmt.Errorf("update %s: %w", path, err)
	}
	if bytes.Equal(old, text) {
		return nil
	}
	return os.WriteFile(path, text, 0o644)
}
