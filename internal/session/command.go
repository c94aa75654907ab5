package session

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// imageCommand joins an image's Entrypoint with args, or with Cmd when there are
// none. An entrypoint of one empty word means none, as Docker writes it after
// ENTRYPOINT [""].
func imageCommand(config v1.ImageConfig, args []string) []string {
	entrypoint := config.Entrypoint
	if len(entrypoint) == 1 && entrypoint[0] == "" {
		entrypoint = nil
	}
	if len(args) == 0 {
		args = config.Cmd
	}
	argv := make([]string, 0, len(entrypoint)+len(args))
	return append(append(argv, entrypoint...), args...)
}

// isBareShell recognises the command of an interactive shell, the Cmd of most
// distributions' images.
func isBareShell(argv []string) bool {
	shells := []string{"sh", "bash", "ash", "dash", "zsh", "fish", "ksh", "mksh"}
	return len(argv) == 1 && slices.Contains(shells, path.Base(argv[0]))
}

// quoteAll makes one line of shell that yields exactly these words. It never starts
// with a hyphen, which would make it an option behind -c.
func quoteAll(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = quote(word)
	}
	if len(words) > 0 && strings.HasPrefix(words[0], "-") {
		quoted[0] = quoteHard(words[0])
	}
	return strings.Join(quoted, " ")
}

const plainCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:,+@%="

// quote protects a word from a POSIX shell. A plain word stays as it is, so that
// --get-proot-cmd reads well, and so does the name in NAME=VALUE: in front of a
// command the shell takes it as an assignment.
func quote(word string) string {
	if word != "" && strings.Trim(word, plainCharacters) == "" {
		return word
	}
	if name, value, ok := strings.Cut(word, "="); ok && isIdentifier(name) {
		return name + "=" + quoteHard(value)
	}
	return quoteHard(word)
}

func quoteHard(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// isIdentifier reports whether a POSIX shell can assign to name.
func isIdentifier(name string) bool {
	for i, c := range name {
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// maxUTS is the room in a field of uname(2).
const maxUTS = 64

// What --network may say.
const (
	networkHost = "host"
	networkNone = "none"
)

func validateNames(o Options) error {
	const digitsAndLetters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	if strings.Trim(o.Hostname, digitsAndLetters+".-_") != "" || len(o.Hostname) > maxUTS {
		return fmt.Errorf("--hostname %q: a hostname has at most %d letters, digits, dots and hyphens", o.Hostname, maxUTS)
	}
	if !slices.Contains([]string{"", networkHost, networkNone}, o.Network) {
		return fmt.Errorf("--network %q: it is either %s or %s", o.Network, networkHost, networkNone)
	}
	if len(o.Kernel) > maxUTS {
		return fmt.Errorf("--kernel: a release has at most %d characters", maxUTS)
	}
	for _, c := range o.Kernel {
		if c <= ' ' || c > '~' || c == '\\' {
			return errors.New("--kernel: a release has printable ASCII characters only, no spaces and no backslashes")
		}
	}
	return nil
}
