package proot

import (
	"fmt"
	"os"
	"path/filepath"

	"proot-distro/internal/engine"
	"proot-distro/internal/host"
	"proot-distro/internal/report"
	"proot-distro/internal/seccomp"
)

// Config is what an Engine is made of.
type Config struct {
	Host     *host.Host
	Reporter report.Reporter
}

// Engine is one proot binary and what it can do. It implements [engine.Engine].
type Engine struct {
	bin     string
	probe   probe
	android bool // where there is no other engine
	getenv  func(string) string
	report  report.Reporter
}

var _ engine.Engine = (*Engine)(nil)

// New finds proot and learns what it can do: from memory, or else by running it
// once. Errors are [*NotFoundError], [ErrNested], [ErrUnusable], or a sentence about
// what PD_PROOT_BIN names. A leak of host metadata that cannot be closed is reported
// as a warning, once per binary.
func New(c Config) (*Engine, error) {
	if TracedByProot() {
		return nil, ErrNested
	}
	bin, err := find(c.Host)
	if err != nil {
		return nil, err
	}
	id, err := identify(bin)
	if err != nil {
		return nil, err
	}
	known := memory{c.Host.Dirs}
	p, ok := known.recall(id)
	if !ok {
		if p, err = run(bin, c.Host.Arch, scratchPlaces(c.Host)); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
		}
	}
	warn := len(p.Escaping) > 0 && !p.CanFilter && !p.Warned
	if warn {
		c.Reporter.Warnf("proot %s does not translate newer system calls and this kernel cannot refuse them, "+
			"so guests see some of the host's file metadata in place of their own: install proot 5.2 or newer, "+
			"or name one in PD_PROOT_BIN", p.Version)
		p.Warned = true
	}
	if !ok || warn {
		known.remember(id, p)
	}
	return &Engine{bin: bin, probe: p, android: c.Host.Termux, getenv: c.Host.Getenv, report: c.Reporter}, nil
}

// Name implements [engine.Engine].
func (e *Engine) Name() string { return "proot" }

// Prepare implements [engine.Engine]. The Process is a [*Process].
func (e *Engine) Prepare(s engine.Spec) (engine.Process, error) {
	if err := e.check(s); err != nil {
		return nil, err
	}
	options, err := e.options(s)
	if err != nil {
		return nil, err
	}
	p := &Process{
		bin:     e.bin,
		options: options,
		command: s.Argv,
		env:     append(e.settings(s), s.Env...),
		shell:   s.Shell,
	}
	if e.probe.CanFilter {
		var faked []seccomp.Numbers
		if singleOwner() {
			faked = givingAway
		}
		p.filter = filterProgram(refused(e.probe.Escaping), faked)
	}
	return p, nil
}

// check refuses a Spec that cannot be started, before anything is.
func (e *Engine) check(s engine.Spec) error {
	if len(s.Argv) == 0 || s.Argv[0] == "" {
		return fmt.Errorf("no command to run in container %s", s.Container)
	}
	if info, err := os.Stat(s.Rootfs); err != nil || !info.IsDir() {
		return fmt.Errorf("container %s has no root filesystem at %s", s.Container, s.Rootfs)
	}
	if !filepath.IsAbs(s.WorkDir) {
		return fmt.Errorf("work directory %q of container %s is not an absolute path", s.WorkDir, s.Container)
	}
	if s.Emulator == "" && !s.HostArch.Runs(s.Arch) {
		return fmt.Errorf("container %s is of architecture %s, which this %s machine runs through an emulator only",
			s.Container, s.Arch, s.HostArch)
	}
	return nil
}
