package cli

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

func newCompletionCommand(a *App) *cobra.Command {
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print the completion script of a shell",
		Long: "Print the completion script of bash, zsh or fish. It completes proot-distro and pd, " +
			"with the names of containers and cached images.",
		Example: "# For this session of bash\nsource <(pd completion bash)\n\n" +
			"# For good, with fish\npd completion fish > ~/.config/fish/completions/proot-distro.fish",
		Annotations: map[string]string{harmless: "true"},
		ValidArgs:   []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			var script bytes.Buffer
			if err := WriteCompletion(&script, cmd.Root(), args[0]); err != nil {
				return UsageErrorf(cmd, "%v", err)
			}
			a.UI.Print(script.String())
			return nil
		},
	}
}

// cobra's script splits the command line with a function of the bash-completion
// package; without the package it shall work too, but for words with a colon.
const (
	bashWords      = `    _get_comp_words_by_ref "$@" cur prev words cword`
	bashWordsAlone = `    if declare -F _get_comp_words_by_ref >/dev/null; then
    ` + bashWords + `
    else
        words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
        cur=${words[cword]} prev=${words[cword-1]}
    fi`
)

// WriteCompletion writes the completion script for a shell: cobra's, with the
// short name registered as well.
func WriteCompletion(w io.Writer, root *cobra.Command, shell string) error {
	var script bytes.Buffer
	switch shell {
	case "bash":
		if err := root.GenBashCompletionV2(&script, true); err != nil {
			return err
		}
		text := strings.Replace(script.String(), bashWords, bashWordsAlone, 1)
		script.Reset()
		script.WriteString(text + "\nif [[ $(type -t compopt) = \"builtin\" ]]; then\n" +
			"    complete -o default -F __start_proot-distro pd\nelse\n" +
			"    complete -o default -o nospace -F __start_proot-distro pd\nfi\n")
	case "zsh":
		if err := root.GenZshCompletion(&script); err != nil {
			return err
		}
		text := strings.ReplaceAll(script.String(), "compdef _proot-distro proot-distro", "compdef _proot-distro proot-distro pd")
		script.Reset()
		script.WriteString(strings.Replace(text, "#compdef proot-distro\n", "#compdef proot-distro pd\n", 1))
	case "fish":
		if err := root.GenFishCompletion(&script, true); err != nil {
			return err
		}
		script.WriteString("\ncomplete -c pd -e\ncomplete -c pd -w proot-distro\n")
	default:
		return fmt.Errorf("no completions for %q: choose bash, zsh or fish", shell)
	}
	_, err := script.WriteTo(w)
	return err
}
