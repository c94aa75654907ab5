package dockerfile

import (
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// Expand replaces the variables in an instruction, in place. ARG is [Scope.Declare]'s.
func (s *Scope) Expand(c instructions.Command) error {
	var err error
	switch c := c.(type) {
	case *instructions.ArgCommand:
		return nil
	case *instructions.ExposeCommand:
		err = s.expandPorts(c)
	case instructions.SupportsSingleWordExpansion:
		err = c.Expand(func(word string) (string, error) { return s.word(s.file.lex, c.(instructions.Command), word) })
	}
	if err != nil {
		return s.file.At(c.Location(), err)
	}
	if raw, ok := c.(instructions.SupportsSingleWordExpansionRaw); ok {
		lex := shell.NewLex('\\') // of heredocs, as sh does it
		lex.SkipProcessQuotes = true
		err = raw.ExpandRaw(func(word string) (string, error) { return s.word(lex, c, word) })
	}
	return s.file.At(c.Location(), err)
}

func (s *Scope) word(lex *shell.Lex, c instructions.Command, word string) (string, error) {
	if err := s.file.charge(word, s.env); err != nil {
		return "", err
	}
	result, unmatched, err := lex.ProcessWord(word, s.env)
	s.lintUndefined(c, unmatched)
	return result, err
}

// expandPorts is apart since one word may become several ports.
func (s *Scope) expandPorts(c *instructions.ExposeCommand) error {
	var ports []string
	for _, word := range c.Ports {
		if err := s.file.charge(word, s.env); err != nil {
			return err
		}
		words, err := s.file.lex.ProcessWords(word, s.env)
		if err != nil {
			return err
		}
		ports = append(ports, words...)
	}
	c.Ports = ports
	return nil
}

// Declare evaluates an ARG of the stage and gives its words for the image's history.
func (s *Scope) Declare(c *instructions.ArgCommand) (words []string, err error) {
	for _, arg := range c.Args {
		s.file.lintSecret(c, "ARG", arg.Key)
		s.file.known[arg.Key] = true
		value, set, err := s.argValue(c, arg)
		if err != nil {
			return nil, s.file.At(c.Location(), err)
		}
		s.args = appendOnce(s.args, arg.Key)
		if !set {
			words = append(words, arg.Key)
			continue
		}
		s.env.set(arg.Key, value)
		words = append(words, arg.Key+"="+value)
	}
	return words, nil
}

// argValue decides: --build-arg, the default given here, the global ARG of that name.
func (s *Scope) argValue(c *instructions.ArgCommand, arg instructions.KeyValuePairOptional) (string, bool, error) {
	if value, given := s.file.args[arg.Key]; given {
		return value, true, nil
	}
	if arg.Value == nil {
		value, ok := s.file.globals.Get(arg.Key)
		return value, ok, nil
	}
	value, err := s.word(s.file.lex, c, *arg.Value)
	return value, true, err
}

func appendOnce(list []string, key string) []string {
	for _, known := range list {
		if known == key {
			return list
		}
	}
	return append(list, key)
}

// Display is an instruction on one line with its variables filled in, for headers.
func (s *Scope) Display(code string) string {
	lex := *s.file.lex
	lex.RawQuotes, lex.RawEscapes, lex.SkipUnsetEnv = true, true, true
	if size, nested := measure(code, s.env.longest); size < MaxSize && nested <= maxNested {
		if expanded, _, err := lex.ProcessWord(code, s.env); err == nil {
			code = expanded
		}
	}
	word, rest, _ := strings.Cut(code, " ")
	return strings.Join(strings.Fields(strings.ToUpper(word)+" "+rest), " ")
}
