// Package dockerfile reads Dockerfiles: it parses them, follows variables, finds out
// which stage builds on which, and warns about what is likely a mistake.
//
// The grammar is BuildKit's own: its parser, instructions, word expansion and lint
// rules. This package adds what BuildKit keeps to itself: the scopes of ARG and ENV, the
// conditions of most lint rules, .dockerignore, and errors that show the line. It
// reads bytes and runs nothing.
//
// Expansion changes instructions in place, so a [File] is for one build of one platform:
// parse again for another.
package dockerfile

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"proot-distro/internal/platform"
)

// MaxSize bounds a Dockerfile, in bytes.
const MaxSize = 4 << 20

// Scratch is the base of a stage that starts with nothing.
const Scratch = "scratch"

// Options are what a Dockerfile is read with.
type Options struct {
	Name      string            // for messages: "Dockerfile"
	BuildArgs map[string]string // --build-arg
	Build     platform.Arch     // of this machine
	Target    platform.Arch     // of the image
	Stage     string            // --target; empty means the last one
	Warn      func(Warning)     // told of lint findings; nil drops them
}

// File is a parsed Dockerfile.
type File struct {
	Stages []*Stage
	Target *Stage

	name    string
	source  []byte
	lex     *shell.Lex
	lint    *linter.Linter
	globals *vars             // of FROM: predefined ones and the ARGs before the first FROM
	args    map[string]string // --build-arg
	known   map[string]bool   // build args that an ARG asked for

	expanded float64 // bytes; see charge
}

// Stage is one FROM and what follows.
type Stage struct {
	Index    int
	Name     string // lower case, or "stage-N"
	Named    bool
	Base     string // expanded: a reference, a stage's name, or [Scratch]
	From     *Stage // the stage of that name; nil for an image
	Platform string // of --platform, expanded; empty without one
	Commands []instructions.Command
	Location []parser.Range
	Code     string // the FROM line
	Comments []string
}

// Parse reads a Dockerfile. Errors are [*Error] where a line is to blame.
func Parse(data []byte, o Options) (*File, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%s is larger than %d MiB", o.Name, MaxSize>>20)
	}
	f := &File{name: o.Name, source: data, args: o.BuildArgs, known: map[string]bool{}}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, fmt.Errorf("%s is empty: it needs at least a FROM instruction", o.Name)
	}
	if bytes.IndexByte(data, 0) >= 0 {
		return nil, fmt.Errorf("%s is not a text file", o.Name)
	}
	if err := f.startLint(o.Warn); err != nil {
		return nil, err
	}
	tree, err := parser.Parse(bytes.NewReader(data))
	if err != nil {
		return nil, f.located(err)
	}
	f.lintWarnings(tree.Warnings)
	stages, metaArgs, err := instructions.Parse(tree.AST, f.lint)
	if err != nil {
		return nil, f.located(err)
	}
	if len(stages) == 0 {
		return nil, fmt.Errorf("%s has no FROM instruction", o.Name)
	}
	f.lex = shell.NewLex(tree.EscapeToken)
	f.lintStages(stages)
	if err := f.setGlobals(metaArgs, stages, o); err != nil {
		return nil, err
	}
	for i := range stages {
		if err := f.addStage(&stages[i]); err != nil {
			return nil, err
		}
	}
	return f, f.chooseTarget(o.Stage)
}

// addStage expands a FROM. A base that names an earlier stage is that stage.
func (f *File) addStage(st *instructions.Stage) error {
	s := &Stage{
		Index: len(f.Stages), Name: st.Name, Named: st.Name != "", Commands: st.Commands,
		Location: st.Location, Code: st.SourceCode, Comments: st.Comments,
	}
	if !s.Named {
		s.Name = "stage-" + strconv.Itoa(s.Index)
	}
	base, err := f.expand(st.BaseName)
	if err != nil {
		return f.At(st.Location, err)
	}
	f.lintFromVars(s, base.Unmatched)
	s.Base = base.Result
	if s.Base == "" {
		return f.At(st.Location, fmt.Errorf("the base image %s is empty: give its ARG a default, or set it with --build-arg", st.BaseName))
	}
	if err := f.expandPlatform(s, st.Platform); err != nil {
		return err
	}
	s.From = f.earlierStage(s.Base)
	f.Stages = append(f.Stages, s)
	return nil
}

// expand replaces the variables in a word of FROM.
func (f *File) expand(word string) (shell.ProcessWordResult, error) {
	if err := f.charge(word, f.globals); err != nil {
		return shell.ProcessWordResult{}, err
	}
	return f.lex.ProcessWordWithMatches(word, f.globals)
}

func (f *File) expandPlatform(s *Stage, word string) error {
	if word == "" {
		return nil
	}
	p, err := f.expand(word)
	if err != nil {
		return f.At(s.Location, err)
	}
	f.lintFromVars(s, p.Unmatched)
	f.lintPlatform(s, word, p)
	if p.Result == "" {
		return f.At(s.Location, fmt.Errorf("the platform %s is empty", word))
	}
	s.Platform = p.Result
	return nil
}

// earlierStage is the last stage so far of a name.
func (f *File) earlierStage(name string) *Stage {
	for i := len(f.Stages) - 1; i >= 0; i-- {
		if s := f.Stages[i]; s.Named && strings.EqualFold(s.Name, name) {
			return s
		}
	}
	return nil
}

func (f *File) chooseTarget(name string) error {
	f.Target = f.Stages[len(f.Stages)-1]
	if name == "" {
		return nil
	}
	s, err := f.Stage(name)
	if err != nil {
		return err
	}
	if s == nil {
		return fmt.Errorf("%s has no stage %q%s", f.name, name, f.stageNames())
	}
	f.Target = s
	return nil
}

func (f *File) stageNames() string {
	var names []string
	for _, s := range f.Stages {
		if s.Named {
			names = append(names, s.Name)
		}
	}
	if names == nil {
		return ": none of its stages has a name"
	}
	return ", only " + strings.Join(names, ", ")
}

// Stage finds the stage that --from and --target name, by name or by number. It is nil
// when there is none, and then name may be an image.
func (f *File) Stage(name string) (*Stage, error) {
	if s := f.earlierStage(name); s != nil {
		return s, nil
	}
	if n, err := strconv.Atoi(name); err == nil {
		if n < 0 || n >= len(f.Stages) {
			return nil, fmt.Errorf("there is no stage number %d: they count from 0 to %d", n, len(f.Stages)-1)
		}
		return f.Stages[n], nil
	}
	return nil, nil
}

// Triggers parses the ONBUILD instructions of a base. They count as written in the stage's FROM.
func (f *File) Triggers(s *Stage, expressions []string) ([]instructions.Command, error) {
	var commands []instructions.Command
	for _, text := range expressions {
		tree, err := parser.Parse(strings.NewReader(text))
		if err == nil && len(tree.AST.Children) != 1 {
			err = errors.New("it is not a single instruction")
		}
		if err != nil {
			return nil, f.At(s.Location, fmt.Errorf("ONBUILD instruction %q of base %s: %w", text, s.Base, plain(err)))
		}
		node := tree.AST.Children[0]
		node.StartLine, node.EndLine = span(s.Location)
		c, err := instructions.ParseCommand(node)
		if err != nil {
			return nil, f.At(s.Location, fmt.Errorf("ONBUILD instruction %q of base %s: %w", text, s.Base, plain(err)))
		}
		commands = append(commands, c)
	}
	return commands, nil
}

// UnusedArgs lists --build-arg names that no ARG of the stages built so far asked for, and that
// are not predefined, sorted.
func (f *File) UnusedArgs() []string {
	var unused []string
	for name := range f.args {
		if !f.known[name] && !predefined(name) {
			unused = append(unused, name)
		}
	}
	slices.Sort(unused)
	return unused
}
