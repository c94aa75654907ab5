package build

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/dockerfile"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
)

// stage is a stage being built, or built.
type stage struct {
	*platformBuild
	def   *dockerfile.Stage
	arch  platform.Arch
	tree  *tree
	img   dockerspec.DockerOCIImage
	scope *dockerfile.Scope
	ready bool

	origins    []oci.Ref // of layers: the bases
	onBuild    int       // instructions at the front that come from the base
	step       int
	total      int       // of steps, for headers: FROM, RUN, COPY, ADD, WORKDIR
	created    time.Time // of the newest layer
	workdirSet bool      // an absolute one, within this Dockerfile
	used       map[string]instructions.Command
}

// defaultPath is what Docker gives images that set none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// stage builds a stage, once.
func (p *platformBuild) stage(ctx context.Context, def *dockerfile.Stage) (*stage, error) {
	if s := p.stages[def]; s != nil {
		if !s.ready {
			return nil, fmt.Errorf("stage %s needs itself: its COPY --from, mounts and FROM go in a circle", def.Name)
		}
		return s, nil
	}
	s := &stage{platformBuild: p, def: def, arch: p.arch, used: map[string]instructions.Command{}}
	p.stages[def] = s
	commands, err := s.start(ctx)
	if err != nil {
		return nil, p.file.At(def.Location, err)
	}
	for i, c := range commands {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := s.execute(ctx, c, i < s.onBuild); err != nil {
			return nil, p.file.At(c.Location(), err)
		}
	}
	s.ready = true
	return s, nil
}

// start begins with the base and gives the instructions to follow.
func (s *stage) start(ctx context.Context) ([]instructions.Command, error) {
	if s.def.Platform != "" {
		arch, err := platform.Parse(s.def.Platform)
		if err != nil {
			return nil, fmt.Errorf("FROM --platform: %w", err)
		}
		s.arch = arch
	}
	for _, c := range s.def.Commands {
		if countsAsStep(c) {
			s.total++
		}
	}
	var err error
	switch named, isNamed := s.req.Contexts[s.def.Name]; {
	case isNamed && s.def.Named:
		err = s.fromContext(ctx, named)
		return nil, err // the stage's own instructions are replaced
	case s.def.From != nil:
		err = s.fromStage(ctx)
	case strings.EqualFold(s.def.Base, dockerfile.Scratch):
		s.fromScratch()
	default:
		s.total++
		err = s.fromImage(ctx)
	}
	if err != nil {
		return nil, err
	}
	return s.trigger()
}

// trigger puts the base's ONBUILD instructions in front.
func (s *stage) trigger() ([]instructions.Command, error) {
	triggers, err := s.file.Triggers(s.def, s.img.Config.OnBuild)
	if err != nil {
		return nil, err
	}
	s.img.Config.OnBuild = nil
	s.onBuild = len(triggers)
	for _, c := range triggers {
		if countsAsStep(c) {
			s.total++
		}
	}
	return append(triggers, s.def.Commands...), nil
}

func countsAsStep(c instructions.Command) bool {
	switch c.(type) {
	case *instructions.RunCommand, *instructions.CopyCommand, *instructions.AddCommand, *instructions.WorkdirCommand:
		return true
	}
	return false
}

func (s *stage) fromScratch() {
	s.tree = newTree(s.session)
	s.img = emptyImage(s.arch)
	s.scope = s.file.NewScope(s.img.Config.Env)
}

func emptyImage(arch platform.Arch) dockerspec.DockerOCIImage {
	var img dockerspec.DockerOCIImage
	img.OS = "linux"
	img.Architecture, img.Variant = arch.OCI()
	img.RootFS.Type = "layers"
	img.Config.WorkingDir = "/"
	img.Config.Env = []string{"PATH=" + defaultPath}
	return img
}

func (s *stage) fromStage(ctx context.Context) error {
	base, err := s.stage(ctx, s.def.From)
	if err != nil {
		return err
	}
	if s.def.Platform == "" {
		s.arch = base.arch
	}
	s.tree = base.tree.fork()
	if s.uses[s.def.From] == 1 {
		s.tree.takeOver(base.tree)
	}
	if err := cloneJSON(&s.img, base.img); err != nil {
		return err
	}
	s.scope = base.scope.Child()
	s.created, s.workdirSet, s.origins = base.created, base.workdirSet, base.origins
	return nil
}

// cloneJSON copies a config in depth.
func cloneJSON(to *dockerspec.DockerOCIImage, from dockerspec.DockerOCIImage) error {
	data, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(data, to)
	}
	if err != nil {
		return fmt.Errorf("copy image config: %w", err)
	}
	return nil
}

// adopt starts from a pulled image's config.
func (s *stage) adopt(config []byte) error {
	if err := json.Unmarshal(config, &s.img); err != nil {
		return fmt.Errorf("read the config of %s: %w", s.def.Base, err)
	}
	if s.img.Created != nil {
		s.created = *s.img.Created
	}
	for _, h := range s.img.History {
		if h.Created != nil && h.Created.After(s.created) {
			s.created = *h.Created
		}
	}
	s.img.Created = nil
	s.img.OS = "linux"
	if s.img.Architecture == "" {
		s.img.Architecture, s.img.Variant = s.arch.OCI()
	}
	s.img.RootFS.Type = "layers"
	alignHistory(&s.img)
	if !slices.ContainsFunc(s.img.Config.Env, func(e string) bool { return strings.HasPrefix(e, "PATH=") }) {
		s.img.Config.Env = append(s.img.Config.Env, "PATH="+defaultPath)
	}
	s.scope = s.file.NewScope(s.img.Config.Env)
	return nil
}

// alignHistory makes as many entries of history as there are layers, as readers expect.
func alignHistory(img *dockerspec.DockerOCIImage) {
	layers := 0
	for _, h := range img.History {
		if !h.EmptyLayer {
			layers++
		}
	}
	for ; layers < len(img.RootFS.DiffIDs); layers++ {
		img.History = append(img.History, v1.History{CreatedBy: "(unknown)"})
	}
	for i := len(img.History) - 1; i >= 0 && layers > len(img.RootFS.DiffIDs); i-- {
		if !img.History[i].EmptyLayer {
			img.History[i].EmptyLayer = true
			layers--
		}
	}
}

// countUses counts who needs each stage's files: FROM, COPY --from, mounts, and the target itself.
func countUses(f *dockerfile.File) map[*dockerfile.Stage]int {
	uses := map[*dockerfile.Stage]int{f.Target: 1}
	byName := func(name string) {
		if s, err := f.Stage(name); name != "" && err == nil && s != nil {
			uses[s]++
		}
	}
	for _, s := range f.Stages {
		if s.From != nil {
			uses[s.From]++
		}
		for _, c := range s.Commands {
			switch c := c.(type) {
			case *instructions.CopyCommand:
				byName(c.From)
			case *instructions.RunCommand:
				for _, m := range instructions.GetMounts(c) {
					byName(m.From)
				}
			}
		}
	}
	return uses
}

// execute dispatches one instruction.
func (s *stage) execute(ctx context.Context, c instructions.Command, fromBase bool) error {
	code := strings.TrimSpace(fmt.Sprint(c))
	if err := s.scope.Expand(c); err != nil {
		return err
	}
	if countsAsStep(c) {
		s.step++
	}
	header := s.header(code, fromBase)
	switch c := c.(type) {
	case *instructions.RunCommand:
		return s.run(ctx, c, header)
	case *instructions.CopyCommand:
		return s.copy(ctx, c, header)
	case *instructions.AddCommand:
		return s.add(ctx, c, header)
	case *instructions.WorkdirCommand:
		return s.workdir(ctx, c, header)
	}
	return s.configure(c)
}

// header names a step: "[build 2/5] RUN make".
func (s *stage) header(code string, fromBase bool) string {
	text := s.scope.Display(code)
	if fromBase {
		text = "ONBUILD " + text
	}
	return fmt.Sprintf("[%s] %s", s.position(), text)
}

func (s *stage) position() string {
	words := make([]string, 0, 3)
	if len(s.req.Platforms) > 1 || s.arch != s.platformBuild.arch {
		words = append(words, s.arch.Docker())
	}
	if s.def.Named {
		words = append(words, s.def.Name)
	}
	return strings.Join(append(words, fmt.Sprintf("%d/%d", s.stepNumber(), s.total)), " ")
}

// stepNumber counts FROM as the first step of a stage on an image.
func (s *stage) stepNumber() int {
	if s.tree != nil && s.def.From == nil && !strings.EqualFold(s.def.Base, dockerfile.Scratch) {
		return s.step + 1
	}
	return max(s.step, 1)
}

// made is what a step that makes a layer does when it is not in the cache.
type made func() (stepEntry, error)

// layerStep runs a step through the cache.
func (s *stage) layerStep(header, key string, history string, do made) error {
	entry, hit := s.cached(key)
	if hit {
		s.Report.Infof("CACHED %s", header)
	} else {
		done := s.beginStep(header)
		var err error
		entry, err = do()
		if done(err != nil); err != nil {
			return err
		}
		if err := s.steps.record(key, entry); err != nil {
			return err
		}
	}
	s.commit(entry, history)
	return nil
}

func (s *stage) beginStep(header string) (done func(failed bool)) {
	if s.Step != nil {
		return s.Step(header)
	}
	s.Report.Infof("%s", header)
	return func(bool) {}
}

// cached looks into the step cache unless that is forbidden.
func (s *stage) cached(key string) (stepEntry, bool) {
	if s.req.NoCache {
		return stepEntry{}, false
	}
	return s.steps.find(key, s.Cache)
}

// commit puts a step's layer on top.
func (s *stage) commit(e stepEntry, history string) {
	if t := e.created(); t.After(s.created) {
		s.created = t
	}
	if e.LayerDigest == "" {
		s.remember(history, true)
		return
	}
	s.tree.add(builtLayer{s.Cache.Blob(e.descriptor()), e.DiffID})
	s.img.RootFS.DiffIDs = append(s.img.RootFS.DiffIDs, e.DiffID)
	s.remember(history, false)
}

// remember adds to the image's history.
func (s *stage) remember(createdBy string, empty bool) {
	h := v1.History{CreatedBy: createdBy, EmptyLayer: empty, Comment: "proot-distro"}
	if t := s.timestamp(); !t.IsZero() {
		h.Created = &t
	}
	s.img.History = append(s.img.History, h)
}

// timestamp is what the image says of when it was made: SOURCE_DATE_EPOCH, or when its newest
// layer was, so that a build from the cache gives the same image again.
func (s *stage) timestamp() time.Time {
	if s.req.Epoch != nil {
		return s.req.Epoch.UTC()
	}
	return s.created
}
