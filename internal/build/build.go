// Package build makes images from Dockerfiles, without a daemon and without root.
//
// # Stages
//
// A stage is built when the target needs it, directly or through FROM, COPY --from or a mount, and
// once. It is a list of layers, a config and the variables in scope. Its files exist on disk only
// while a step needs them: layers are applied to a scratch tree as late as possible, so a build that
// finds every step in the cache touches no file of any root filesystem.
//
// # Steps
//
// RUN, COPY, ADD and WORKDIR make layers, everything else changes the config. Each step has a key:
// the layers below it and all that it depends on (the expanded instruction, digests of the files it
// reads, and for RUN the environment). The step cache maps keys to layers, which lie in the
// image cache beside those of registries. COPY and ADD write their layer without touching
// the tree. What a RUN did is the directory on top where trees can be stacked ([files]), and is else found by
// comparing the tree before and after.
//
// # Owners
//
// All files on disk belong to the caller, whoever they belong to in the image. The owners of a tree are
// kept beside it ([layout.Owners]): learnt from the layers' headers, set by --chown, by the user that a RUN had and by what
// its root gave away, if the engine keeps account of that, and written into new layers. Where the caller may change
// owners (Builder.AllIDs) the files on disk have theirs, too, and users of a RUN are users of the kernel.
//
// # Safety
//
// The context and every root filesystem are reached through package rootfs: no link leads out
// of them. Scratch trees live below the state directory, each under a lock, and what a killed build
// left is swept by the next one.
package build

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"proot-distro/internal/build/layout"
	"proot-distro/internal/dockerfile"
	"proot-distro/internal/engine"
	"proot-distro/internal/host"
	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/registry"
	"proot-distro/internal/report"
	"proot-distro/internal/sshagent"
)

// Request is what `build` was asked for.
type Request struct {
	Dockerfile []byte
	Name       string                      // of the Dockerfile, for messages
	Context    string                      // directory
	Ignore     *dockerfile.Ignore          // of the context
	Contexts   map[string]string           // --build-context: a directory, or docker-image://REF
	Platforms  []platform.Arch             // at least one
	Implicit   bool                        // nobody asked for that platform: a stage may have another
	Stage      string                      // --target
	Args       map[string]string           // --build-arg
	Labels     map[string]string           // --label
	Secrets    map[string]Secret           // --secret, by id
	SSH        map[string]*sshagent.Source // --ssh, by id
	NoCache    bool
	Pull       bool       // ask the registry for newer base images
	Epoch      *time.Time // SOURCE_DATE_EPOCH
}

// Secret is one --secret: a file, or the value itself.
type Secret struct {
	File  string
	Value []byte // used when File is empty
}

// Builder holds what every build needs.
type Builder struct {
	Cache *image.Cache
	Host  *host.Host
	// Prepare has an engine prepare the command of a RUN.
	Prepare func(engine.Spec) (engine.Process, error)
	// Emulator gives the emulator for an architecture, or "" where the CPU does it itself.
	Emulator func(platform.Arch) (string, error)
	Report   report.Reporter
	// Step shows a step that is not in the cache; done is called when it ends. Without it, Report
	// is told of the step.
	Step func(header string) (done func(failed bool))
	// Output is told each line that a RUN prints. May be nil.
	Output  func(line string)
	Auth    registry.Auth
	Version string // of this program, for servers
	// Insecure accepts plain http and bad certificates for base images.
	Insecure bool
	// MayMount says that this process has a mount namespace of its own, and may mount there.
	MayMount bool
	// AllIDs says that this process may change the owners of files, and become other users.
	AllIDs bool
}

// Result is one image of a build.
type Result struct {
	Arch   platform.Arch
	Record *oci.Record
	Image  *image.Image // all of whose layers are cached
}

// CommandError says that the command of a RUN failed.
type CommandError struct {
	Step   string // "stage build, step 3 of 5"
	Status int
	Tail   []string // the last lines it printed
}

func (e *CommandError) Error() string {
	if e.Status > 128 && e.Status < 128+65 {
		return fmt.Sprintf("the command was killed by signal %d (%s)", e.Status-128, e.Step)
	}
	return fmt.Sprintf("the command ended with status %d (%s)", e.Status, e.Step)
}

// Build builds the target for every platform.
func (b *Builder) Build(ctx context.Context, req Request) (results []Result, err error) {
	unlock, err := b.Cache.Lock(image.Shared)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unlock() }()
	s, err := b.open(req)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, arch := range req.Platforms {
		p, err := s.platform(arch)
		if err != nil {
			return nil, err
		}
		r, err := p.build(ctx)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	return results, nil
}

// session is one run of Build: what its platforms share.
type session struct {
	*Builder
	req      Request
	scratch  *scratch
	steps    *stepCache
	context  *layout.Source   // nil until it is needed
	images   map[string]*tree // of COPY --from=IMAGE, by architecture and reference
	pulled   map[string]bool  // bases asked for with Pull
	named    map[string]*layout.Source
	started  time.Time
	closers  []func() error
	warnings map[string]bool // told already
	stacks   func() bool     // whether trees can be stacked; see overlays
}

func (b *Builder) open(req Request) (*session, error) {
	Sweep(b.Host.Dirs)
	steps, err := openStepCache(b.Host.Dirs)
	if err != nil {
		return nil, err
	}
	s := &session{
		Builder: b, req: req, steps: steps, scratch: newScratch(b.Host.Dirs),
		images: map[string]*tree{}, pulled: map[string]bool{}, named: map[string]*layout.Source{}, started: time.Now().UTC(), warnings: map[string]bool{},
	}
	s.stacks = sync.OnceValue(s.tryStacks)
	return s, nil
}

func (s *session) close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	errs = append(errs, s.scratch.close())
	return errors.Join(errs...)
}

// warnOnce warns once for all platforms.
func (s *session) warnOnce(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !s.warnings[text] {
		s.warnings[text] = true
		s.Report.Warnf("%s", text)
	}
}

// platformBuild is the build for one platform.
type platformBuild struct {
	*session
	arch   platform.Arch
	file   *dockerfile.File
	stages map[*dockerfile.Stage]*stage
	uses   map[*dockerfile.Stage]int // by FROM, COPY and mounts
}

func (s *session) platform(arch platform.Arch) (*platformBuild, error) {
	file, err := dockerfile.Parse(s.req.Dockerfile, dockerfile.Options{
		Name: s.req.Name, BuildArgs: s.req.Args, Build: s.Host.Arch, Target: arch, Stage: s.req.Stage,
		Warn: func(w dockerfile.Warning) { s.warnOnce("%v", w) },
	})
	if err != nil {
		return nil, err
	}
	p := &platformBuild{session: s, arch: arch, file: file, stages: map[*dockerfile.Stage]*stage{}}
	p.uses = countUses(file)
	return p, nil
}

func (p *platformBuild) build(ctx context.Context) (Result, error) {
	target, err := p.stage(ctx, p.file.Target)
	if err != nil {
		return Result{}, err
	}
	if err := p.file.LintError(); err != nil {
		return Result{}, err
	}
	r, err := p.finish(ctx, target)
	if err != nil {
		return Result{}, err
	}
	for _, name := range p.file.UnusedArgs() {
		p.warnOnce("--build-arg %s: no ARG of the stages built asks for it", name)
	}
	return r, nil
}
