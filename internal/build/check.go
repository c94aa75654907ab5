package build

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"

	"proot-distro/internal/build/layout"
	"proot-distro/internal/dockerfile"
	"proot-distro/internal/oci"
)

// Check looks for mistakes in all stages, builds nothing and asks no registry. It gives the number of
// findings, which the Reporter has been told of as warnings.
func (b *Builder) Check(ctx context.Context, req Request) (int, error) {
	s, err := b.open(req)
	if err != nil {
		return 0, err
	}
	p, err := s.platform(req.Platforms[0])
	if err != nil {
		return 0, err
	}
	for _, def := range p.file.Stages {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if err := p.checkStage(def); err != nil {
			return 0, err
		}
	}
	return len(s.warnings), p.file.LintError()
}

// checkStage follows a stage's instructions as far as its variables and its config.
func (p *platformBuild) checkStage(def *dockerfile.Stage) error {
	s := &stage{platformBuild: p, def: def, arch: p.arch, used: map[string]instructions.Command{}}
	p.stages[def] = s
	if err := s.checkBase(); err != nil {
		return p.file.At(def.Location, err)
	}
	for _, c := range def.Commands {
		err := s.scope.Expand(c)
		if err == nil {
			err = s.checkCommand(c)
		}
		if err != nil {
			return p.file.At(c.Location(), err)
		}
	}
	s.ready = true
	return nil
}

// checkBase takes what the base is known to bring. Of an image that is not cached nothing is.
func (s *stage) checkBase() error {
	s.fromScratch()
	if base := s.stages[s.def.From]; s.def.From != nil && base != nil {
		s.scope, s.workdirSet = base.scope.Child(), base.workdirSet
		return cloneJSON(&s.img, base.img)
	}
	if strings.EqualFold(s.def.Base, dockerfile.Scratch) {
		return nil
	}
	ref, err := oci.ParseRef(s.def.Base)
	if err != nil {
		return err
	}
	rec, err := s.Cache.Lookup(ref, s.arch)
	if err != nil {
		s.scope.Open = true
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return s.adopt(rec.Config)
}

func (s *stage) checkCommand(c instructions.Command) error {
	switch c := c.(type) {
	case *instructions.RunCommand:
		_, err := s.commandOf(c)
		return errors.Join(err, checkRun(c))
	case *instructions.CopyCommand:
		if c.From == "" {
			s.checkSources(c, c.SourcePaths)
		}
		_, err := layout.ParseChmod(c.Chmod)
		return err
	case *instructions.AddCommand:
		s.checkSources(c, c.SourcePaths)
		_, err := layout.ParseChmod(c.Chmod)
		return err
	case *instructions.WorkdirCommand:
		s.lintWorkdir(c)
		return nil
	}
	return s.configure(c)
}

func (s *stage) checkSources(c instructions.Command, words []string) {
	for _, word := range words {
		if !isRemote(word) && s.req.Ignore != nil {
			s.file.LintIgnored(c, s.req.Ignore, word)
		}
	}
}

// lintWorkdir reports a relative directory that depends on the base's.
func (s *stage) lintWorkdir(c *instructions.WorkdirCommand) {
	if !s.workdirSet && !path.IsAbs(c.Path) {
		s.file.Lint(c, &linter.RuleWorkdirRelativePath, linter.RuleWorkdirRelativePath.Format(c.Path))
	}
	s.workdirSet = true
}
