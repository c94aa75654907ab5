package cli

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"proot-distro/internal/report"
	"proot-distro/internal/ui"
)

// maxEnvFile bounds a file of variables, in bytes.
const maxEnvFile = 1 << 20

func (a *App) envFileFlag(cmd *cobra.Command, files *[]string) {
	cmd.Flags().StringArrayVar(files, "env-file", nil, "set the variables that `FILE` has, a line each as --env takes them (repeatable)")
	_ = cmd.MarkFlagFilename("env-file")
}

// readEnvFiles puts what files say before env, which is stronger. As with docker run, nothing in a line is quoted, and
// one that begins with # is a comment.
func (a *App) readEnvFiles(files, env []string) ([]string, error) {
	var all []string
	for _, name := range files {
		data, err := readLimited(name, maxEnvFile)
		if err != nil {
			return nil, fmt.Errorf("--env-file %s: %w", ui.ShellQuote(name), report.Cause(err))
		}
		if len(data) > maxEnvFile || !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0 {
			return nil, fmt.Errorf("--env-file %s: it is not a file of variables, a VAR=VALUE each line", ui.ShellQuote(name))
		}
		for line := range strings.Lines(string(data)) {
			line = strings.TrimLeft(strings.TrimRight(line, "\r\n"), " \t")
			if line != "" && line[0] != '#' {
				all = append(all, line)
			}
		}
	}
	return slices.Concat(all, env), nil
}
