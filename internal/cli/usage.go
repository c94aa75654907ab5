package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"proot-distro/internal/ui"
)

// usageError is a wrong command line: one sentence, hints, and the command
// whose usage is shown.
type usageError struct {
	cmd   *cobra.Command // nil when usage would not help
	text  string
	hints []string
}

func (e *usageError) Error() string { return e.text }

// UsageErrorf makes an error for a wrong value on the command line: the
// command's usage is shown below it and the exit code is 2.
func UsageErrorf(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{cmd: cmd, text: fmt.Sprintf(format, args...)}
}

func (a *App) unknownCommand(root *cobra.Command, word string) error {
	e := &usageError{text: fmt.Sprintf("unknown command %s", ui.ShellQuote(word))}
	var names []string
	for _, c := range root.Commands() {
		if c.Hidden {
			continue
		}
		names = append(names, c.Name())
	}
	if ours := elsewhere[word]; ours != "" {
		e.hints = append(e.hints, fmt.Sprintf("Did you mean '%s %s'?", a.Program, ours))
	}
	if near := nearest(word, names); near != "" && len(e.hints) == 0 {
		e.hints = append(e.hints, fmt.Sprintf("Did you mean '%s %s'?", a.Program, near))
	}
	e.hints = append(e.hints, fmt.Sprintf("Run '%s help' for the list of commands.", a.Program))
	return e
}

// flagError turns pflag's errors into sentences of ours.
func (a *App) flagError(cmd *cobra.Command, err error) error {
	if asksForHelp(a.args) {
		return pflag.ErrHelp
	}
	var (
		unknown  *pflag.NotExistError
		noValue  *pflag.ValueRequiredError
		badValue *pflag.InvalidValueError
	)
	e := &usageError{cmd: cmd, text: err.Error()}
	switch {
	case errors.As(err, &unknown):
		a.unknownOption(e, unknown)
	case errors.As(err, &noValue):
		name, _ := pflag.UnquoteUsage(noValue.GetFlag())
		e.text = fmt.Sprintf("option %s needs a value: %s", optionName(noValue.GetFlag()), name)
	case errors.As(err, &badValue) && badValue.GetFlag().Value.Type() == "bool":
		e.text = fmt.Sprintf("option %s takes no value", optionName(badValue.GetFlag()))
	case errors.As(err, &badValue):
		e.text = fmt.Sprintf("bad value %s for option %s: %v",
			ui.ShellQuote(badValue.GetValue()), optionName(badValue.GetFlag()), cause(badValue))
	}
	return e
}

// cause drops what strconv adds to its errors.
func cause(err *pflag.InvalidValueError) string {
	if strings.HasSuffix(err.GetFlag().Value.Type(), "int") {
		return "not a number"
	}
	return err.Unwrap().Error()
}

func (a *App) unknownOption(e *usageError, unknown *pflag.NotExistError) {
	option := "--" + unknown.GetSpecifiedName()
	if unknown.GetSpecifiedShortnames() != "" {
		option = "-" + unknown.GetSpecifiedName()
	}
	e.text = fmt.Sprintf("%s has no option %s", strings.TrimSpace(a.path(e.cmd)), ui.ShellQuote(option))
	var names []string
	e.cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	if advice := elsewhereOptions[strings.TrimLeft(option, "-")]; advice != "" && takesInner(e.cmd) {
		e.hints = append(e.hints, strings.ReplaceAll(advice, "PD", a.Program))
	} else if near := nearest(unknown.GetSpecifiedName(), names); near != "" && strings.HasPrefix(option, "--") {
		e.hints = append(e.hints, fmt.Sprintf("Did you mean '--%s'?", near))
	} else if words := e.cmd.Flags().Args(); takesInner(e.cmd) && len(words) > 1 {
		e.hints = append(e.hints, a.innerHint(e.cmd)+" …")
	}
}

// innerHint shows the command line with -- in front of the guest's command.
func (a *App) innerHint(cmd *cobra.Command) string {
	words := cmd.Flags().Args()
	if len(words) < 2 {
		return fmt.Sprintf("A command for the container goes after '--': %s CONTAINER -- …", a.path(cmd))
	}
	return fmt.Sprintf("A command for the container goes after '--': %s %s -- %s", a.path(cmd), ui.ShellQuote(words[0]), ui.ShellJoin(words[1:]...))
}

func optionName(f *pflag.Flag) string { return "--" + f.Name }

// asksForHelp reports whether help is wanted whatever else is wrong.
func asksForHelp(args []string) bool {
	for _, arg := range args {
		switch arg {
		case "--":
			return false
		case "-h", "--help", "--usage":
			return true
		}
	}
	return false
}

// A positional is one word of a command's Use line.
type positional struct {
	name               string // "CONTAINER", "IMAGE | PATH"
	optional, repeated bool
}

// positionals reads them from cmd.Use:
//
//	NAME  (A | B)  [OPTIONAL]  [PREFIX:]NAME  REPEATED...  [-- INNER ...]  (-- INNER ...)
func positionals(cmd *cobra.Command) (words []positional) {
	for _, word := range useWords(cmd.Use)[1:] {
		if word == "[OPTIONS]" || strings.HasPrefix(word, "[--") || strings.HasPrefix(word, "(--") {
			continue
		}
		name, repeated := strings.CutSuffix(word, "...")
		p := positional{repeated: repeated, optional: word[0] == '[' && strings.HasSuffix(name, "]")}
		if i := strings.LastIndexByte(name, ']'); !p.optional {
			name = name[i+1:] // [CONTAINER:]SRC is a SRC
		}
		p.name = strings.Trim(name, "[]()")
		words = append(words, p)
	}
	return words
}

// useWords splits a Use line at the spaces outside of brackets.
func useWords(use string) (words []string) {
	depth, start := 0, 0
	for i, c := range use {
		switch {
		case c == '[' || c == '(':
			depth++
		case c == ']' || c == ')':
			depth--
		case c == ' ' && depth == 0:
			words = append(words, use[start:i])
			start = i + 1
		}
	}
	return append(words, use[start:])
}

// takesInner reports whether words after -- belong to the guest's command.
func takesInner(cmd *cobra.Command) bool {
	return strings.Contains(cmd.Use, "[-- ") || strings.Contains(cmd.Use, "(-- ")
}

// splitInner separates a command's own positionals from the guest's command,
// which stands after "--".
func splitInner(cmd *cobra.Command, args []string) (own, inner []string) {
	if dash := cmd.ArgsLenAtDash(); dash >= 0 && takesInner(cmd) {
		return args[:dash:dash], args[dash:]
	}
	return args, nil
}

// checkPositionals is every command's Args: the Use line is the rule.
func (a *App) checkPositionals(cmd *cobra.Command, args []string) error {
	words := positionals(cmd)
	own, _ := splitInner(cmd, args)
	least, most := 0, len(words)
	for _, w := range words {
		if !w.optional {
			least++
		}
		if w.repeated {
			most = len(own)
		}
	}
	switch {
	case len(own) < least:
		return UsageErrorf(cmd, "%s needs %s", a.path(cmd), article(words[len(own)].name))
	case len(own) > most:
		e := &usageError{cmd: cmd, text: fmt.Sprintf("unexpected argument %s", ui.ShellQuote(own[most]))}
		if src, _, isBind := strings.Cut(own[0], ":"); isBind && a.verbose && takesInner(cmd) {
			e.hints = append(e.hints, fmt.Sprintf("-v is --verbose; to see %s in the container: --bind %s", ui.ShellQuote(src), ui.ShellQuote(own[0])))
		} else if takesInner(cmd) {
			e.hints = append(e.hints, a.innerHint(cmd))
		}
		return e
	}
	return nil
}

func article(name string) string {
	if strings.ContainsRune("AEIO", rune(name[0])) {
		return "an " + strings.ReplaceAll(name, " | ", " or ")
	}
	return "a " + strings.ReplaceAll(name, " | ", " or ")
}

// checkFlags runs before every command.
func (a *App) checkFlags(cmd *cobra.Command) error {
	var err error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if err != nil {
			return
		}
		for _, group := range f.Annotations[annotationExclusive] {
			for other := range strings.FieldsSeq(group) {
				if other != f.Name && cmd.Flags().Changed(other) {
					err = UsageErrorf(cmd, "options --%s and --%s exclude each other", f.Name, other)
				}
			}
		}
		if f.Annotations[annotationTermux] != nil && !a.Termux() {
			err = UsageErrorf(cmd, "option --%s exists on Termux only: %s", f.Name, f.Annotations[annotationTermux][0])
		}
	})
	return err
}

const (
	// cobra's own annotation, set by MarkFlagsMutuallyExclusive; its
	// completions leave excluded options out.
	annotationExclusive = "cobra_annotation_mutually_exclusive"
	annotationTermux    = "proot-distro_termux"
)

// termuxOnly marks flags of cmd as existing on Termux only: elsewhere they are not
// shown, and using one is an error that gives the reason why.
func (a *App) termuxOnly(cmd *cobra.Command, why string, names ...string) {
	for _, name := range names {
		f := cmd.Flags().Lookup(name)
		if f.Annotations == nil {
			f.Annotations = map[string][]string{}
		}
		f.Annotations[annotationTermux] = []string{why}
		f.Hidden = !a.Termux() && !a.documenting
	}
}
