package dockerfile

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/buildkit/util/suggest"

	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
)

// Warning is a lint finding. The rules are described at
// https://docs.docker.com/reference/build-checks/.
type Warning struct {
	Rule, Message string
	File          string
	Line          int // from 1
}

func (w Warning) String() string {
	return fmt.Sprintf("%s, line %d: %s (%s)", w.File, w.Line, w.Message, w.Rule)
}

// startLint obeys the file's "# check=" directive.
func (f *File) startLint(warn func(Warning)) error {
	if warn == nil {
		warn = func(Warning) {}
	}
	value, _, where, _ := parser.ParseDirective("check", f.source)
	config, err := linter.ParseLintOptions(value)
	if err != nil {
		return f.At(where, fmt.Errorf("directive check: %w", err))
	}
	config.Warn = func(rule, _, _, message string, where []parser.Range) {
		line, _ := span(where)
		warn(Warning{Rule: rule, Message: message, File: f.name, Line: line})
	}
	f.lint = linter.New(config)
	return nil
}

// LintError is an error when the file asks for one ("# check=error=true") and there were findings.
func (f *File) LintError() error {
	if err := f.lint.Error(); err != nil {
		return fmt.Errorf("%s: %w, and its check directive makes that an error", f.name, err)
	}
	return nil
}

func (f *File) lintWarnings(warnings []parser.Warning) {
	for _, w := range warnings {
		if w.URL == linter.RuleNoEmptyContinuation.URL && w.Location != nil {
			f.lint.Run(&linter.RuleNoEmptyContinuation, []parser.Range{*w.Location}, linter.RuleNoEmptyContinuation.Format())
		}
	}
}

// lintStages checks names of stages and the case of keywords.
func (f *File) lintStages(stages []instructions.Stage) {
	type keyword struct {
		text  string
		where []parser.Range
	}
	var keywords []keyword
	seen := map[string]bool{}
	for _, s := range stages {
		if s.Name == Scratch || s.Name == "context" {
			f.lint.Run(&linter.RuleReservedStageName, s.Location, linter.RuleReservedStageName.Format(s.Name))
		}
		if s.Name != "" && seen[s.Name] {
			f.lint.Run(&linter.RuleDuplicateStageName, s.Location, linter.RuleDuplicateStageName.Format(s.Name))
		}
		seen[s.Name] = true
		keywords = append(keywords, keyword{s.OrigCmd, s.Location})
		for _, c := range s.Commands {
			keywords = append(keywords, keyword{c.Name(), c.Location()})
		}
	}
	lower, upper := 0, 0
	for _, k := range keywords {
		switch k.text {
		case strings.ToLower(k.text):
			lower++
		case strings.ToUpper(k.text):
			upper++
		}
	}
	wanted, casing := strings.ToUpper, "uppercase"
	if lower > upper {
		wanted, casing = strings.ToLower, "lowercase"
	}
	for _, k := range keywords {
		if k.text != wanted(k.text) {
			f.lint.Run(&linter.RuleConsistentInstructionCasing, k.where, linter.RuleConsistentInstructionCasing.Format(k.text, casing))
		}
	}
}

// lintDefaults looks for bases that are no image names unless --build-arg sets something.
func (f *File) lintDefaults(metaArgs []instructions.ArgCommand, stages []instructions.Stage) {
	env := f.globals.clone()
	defer func(before float64) { f.expanded = before }(f.expanded)
	for i := range metaArgs {
		if f.evaluate(env, &metaArgs[i], nil) != nil {
			return // reported when it counts
		}
	}
	for _, s := range stages {
		if f.charge(s.BaseName, env) != nil {
			return
		}
		base, _, err := f.lex.ProcessWord(s.BaseName, env)
		if err != nil {
			return
		}
		if _, err := oci.ParseRef(base); err != nil {
			f.lint.Run(&linter.RuleInvalidDefaultArgInFrom, s.Location, linter.RuleInvalidDefaultArgInFrom.Format(s.BaseName))
		}
	}
}

// lintFromVars reports variables of a FROM that no ARG declares.
func (f *File) lintFromVars(s *Stage, unmatched map[string]struct{}) {
	lint := f.lint.WithMergedConfigFromComments(s.Comments)
	for _, name := range sorted(unmatched) {
		if !f.known[name] {
			near, _ := suggest.Search(name, f.globals.keys, true)
			lint.Run(&linter.RuleUndefinedArgInFrom, s.Location, linter.RuleUndefinedArgInFrom.Format(name, near))
		}
	}
}

func (f *File) lintPlatform(s *Stage, word string, p shell.ProcessWordResult) {
	lint := f.lint.WithMergedConfigFromComments(s.Comments)
	target, _ := f.globals.Get("TARGETPLATFORM")
	_, isTarget := p.Matched["TARGETPLATFORM"]
	switch {
	case isTarget && len(p.Matched) == 1 && len(p.Unmatched) == 0 && p.Result == target:
		lint.Run(&linter.RuleRedundantTargetPlatform, s.Location, linter.RuleRedundantTargetPlatform.Format(word))
	case len(p.Matched) == 0 && len(p.Unmatched) == 0:
		arch, err := platform.Parse(p.Result)
		if err != nil {
			return // an error later on
		}
		name, _ := arch.OCI()
		if !strings.Contains(s.Name, name) && !strings.Contains(s.Name, "linux") {
			lint.Run(&linter.RuleFromPlatformFlagConstDisallowed, s.Location, linter.RuleFromPlatformFlagConstDisallowed.Format(p.Result))
		}
	}
}

// lintUndefined reports variables that nothing has set.
func (s *Scope) lintUndefined(c instructions.Command, unmatched map[string]struct{}) {
	if s.Open {
		return
	}
	lint := s.file.lint.WithMergedConfigFromComments(c.Comments())
	for _, name := range sorted(unmatched) {
		if !slices.Contains(s.args, name) { // declared without a value is fine
			near, _ := suggest.Search(name, s.env.keys, true)
			lint.Run(&linter.RuleUndefinedVar, c.Location(), linter.RuleUndefinedVar.Format(name, near))
		}
	}
}

// secretWords recognise variables that hold secrets, by a word of their name.
var secretWords = sync.OnceValues(func() (secret, harmless *regexp.Regexp) {
	word := func(words string) *regexp.Regexp { return regexp.MustCompile(`(?i)(^|_)(` + words + `)(_|$)`) }
	return word("apikey|auth|credentials?|key|passwd|password|pword|secret|token"), word("file|public|version")
})

func (f *File) lintSecret(c instructions.Command, instruction, key string) {
	secret, harmless := secretWords()
	if secret.MatchString(key) && !harmless.MatchString(key) {
		f.Lint(c, &linter.RuleSecretsUsedInArgOrEnv, linter.RuleSecretsUsedInArgOrEnv.Format(instruction, key))
	}
}

// Lint reports that an instruction breaks a rule, unless a comment above it forbids that.
func (f *File) Lint(c instructions.Command, rule linter.LinterRuleI, message string) {
	f.lint.WithMergedConfigFromComments(c.Comments()).Run(rule, c.Location(), message)
}

// LintBase reports that a base image is not of the platform that was asked for.
func (f *File) LintBase(s *Stage, want, got string) {
	rule := &linter.RuleInvalidBaseImagePlatform
	f.lint.WithMergedConfigFromComments(s.Comments).Run(rule, s.Location, rule.Format(s.Base, want, got))
}

// LintPairs checks the words of ENV and LABEL.
func (f *File) LintPairs(c instructions.Command, pairs instructions.KeyValuePairs) {
	for _, kv := range pairs {
		if kv.NoDelim {
			f.Lint(c, &linter.RuleLegacyKeyValueFormat, linter.RuleLegacyKeyValueFormat.Format(c.Name()))
		}
		if strings.EqualFold(c.Name(), "env") {
			f.lintSecret(c, "ENV", kv.Key)
		}
	}
}

// LintIgnored reports sources of COPY and ADD that the ignore file hides.
func (f *File) LintIgnored(c instructions.Command, ignore *Ignore, source string) {
	source = path.Clean("/" + source)[1:]
	if ignore.hidesSource(source) {
		verb := "Copy"
		if strings.EqualFold(c.Name(), "add") {
			verb = "Add"
		}
		f.Lint(c, &linter.RuleCopyIgnoredFile, linter.RuleCopyIgnoredFile.Format(verb, source))
	}
}

func sorted(set map[string]struct{}) []string {
	var keys []string
	for key := range set {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
