package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"proot-distro/internal/engine"
	"proot-distro/internal/guest"
	"proot-distro/internal/l2s"
	"proot-distro/internal/layer"
	"proot-distro/internal/platform"
	"proot-distro/internal/rootfs"
)

// command is what a RUN runs.
type command struct {
	argv   []string
	script *instructions.ShellInlineFile // a heredoc that begins with #!, to be run as a file
}

// scriptDir is where such a script lies in the guest.
const scriptDir = "/.dockerfile"

func (s *stage) run(ctx context.Context, c *instructions.RunCommand, header string) error {
	if err := checkRun(c); err != nil {
		return err
	}
	cmd, err := s.commandOf(c)
	if err != nil {
		return err
	}
	mounts, err := s.mounts(ctx, instructions.GetMounts(c))
	if err != nil {
		return err
	}
	r := recipe{
		Parent: s.tree.chain(), Arch: s.arch, Step: "RUN", Epoch: epochSeconds(s.req.Epoch), Argv: cmd.argv,
		Env: s.scope.Environ(), User: s.img.Config.User, WorkDir: s.workdirOf("."),
		Network: instructions.GetNetwork(c),
	}
	if cmd.script != nil {
		r.Script = cmd.script.Data
	}
	for _, m := range mounts {
		r.Mounts = append(r.Mounts, m.key)
	}
	history := "RUN " + strings.Join(s.historyWords(cmd.argv), " ")
	return s.layerStep(header, r.key(), history, func() (stepEntry, error) { return s.runCommand(ctx, c, cmd, mounts) })
}

// checkRun refuses what no engine of ours does.
func checkRun(c *instructions.RunCommand) error {
	for _, flag := range c.FlagsUsed {
		switch flag {
		case "security", "device":
			return fmt.Errorf("RUN --%s is not supported: a command has the rights of the user who builds", flag)
		}
	}
	return nil
}

// historyWords shows the build arguments in front, as Docker does.
func (s *stage) historyWords(argv []string) []string {
	args := s.scope.Args()
	if len(args) == 0 {
		return argv
	}
	return append(append([]string{fmt.Sprintf("|%d", len(args))}, args...), argv...)
}

// commandOf puts heredocs back to where the command expects them.
func (s *stage) commandOf(c *instructions.RunCommand) (command, error) {
	words := c.CmdLine
	if len(c.Files) > 0 {
		if len(words) != 1 || !c.PrependShell {
			return command{}, errors.New("RUN: a heredoc needs the shell form")
		}
		text := words[0]
		doc, err := parser.ParseHeredoc(text)
		if err == nil && doc != nil { // nothing but a heredoc: its content is the command
			file := c.Files[0]
			if file.Chomp {
				file.Data = parser.ChompHeredocContent(file.Data)
			}
			if strings.HasPrefix(file.Data, "#!") {
				return command{argv: []string{scriptDir + "/" + path.Base("/"+file.Name)}, script: &file}, nil
			}
			words = []string{file.Data}
		} else {
			for _, file := range c.Files {
				text += "\n" + file.Data + file.Name
			}
			words = []string{text}
		}
	}
	if c.PrependShell {
		words = s.withShell(words)
	}
	if len(words) == 0 || words[0] == "" {
		return command{}, errors.New("RUN: there is no command")
	}
	return command{argv: words}, nil
}

// runCommand runs the command and makes a layer of what it did.
func (s *stage) runCommand(ctx context.Context, c *instructions.RunCommand, cmd command, mounts []mount) (stepEntry, error) {
	root, err := s.tree.disk().begin(ctx)
	if err != nil {
		return stepEntry{}, err
	}
	place, err := s.mountAll(ctx, root, cmd, mounts)
	var made runLayer
	if err == nil {
		made, err = s.runMounted(ctx, c, root, cmd, place)
	}
	if err := errors.Join(err, place.close(root)); err != nil {
		return stepEntry{}, err
	}
	if made.Entries == 0 {
		return s.outcome(), s.tree.files.keep(nil, 0)
	}
	top := builtLayer{s.Cache.Blob(made.descriptor()), made.DiffID}
	return made.stepEntry, s.tree.files.keep(&top, onDisk(made.Bytes, made.Entries))
}

// runLayer is what a command has made.
type runLayer struct {
	stepEntry
	layer.DiffStats
}

// runMounted runs the command where all is in its place.
func (s *stage) runMounted(ctx context.Context, c *instructions.RunCommand, root *rootfs.FS, cmd command, place *mounted) (
	made runLayer, err error,
) {
	spec, err := s.spec(root, cmd, place)
	if err != nil {
		return made, err
	}
	spec.NoNetwork = instructions.GetNetwork(c) == instructions.NetworkNone
	process, err := s.prepare(ctx, &spec, place)
	if err != nil {
		return made, err
	}
	if err := s.tree.files.mark(ctx, place); err != nil {
		return made, err
	}
	if err := root.MkdirAll(spec.WorkDir, 0o755); err != nil {
		return made, fmt.Errorf("make the working directory: %w", err)
	}
	if err := s.attend(ctx, process); err != nil {
		return made, err
	}
	after := s.after(root, spec, process)
	made.stepEntry, err = s.addLayer(ctx, func(w io.Writer) (err error) {
		made.DiffStats, err = s.tree.files.diff(ctx, w, place, layer.DiffOptions{
			Skip: place.skip, Epoch: s.req.Epoch, Owner: after.settle, Given: after.given,
			OnSkip: func(name, reason string) { s.Report.Detailf("%s is left out of the layer: %s", name, reason) },
		})
		if err == nil && made.Entries == 0 {
			err = errUnchanged
		}
		return err
	})
	if errors.Is(err, errUnchanged) {
		err = nil
	}
	return made, err
}

// errUnchanged keeps an empty layer out of the cache.
var errUnchanged = errors.New("nothing has changed")

// spec describes the command for an engine.
func (s *stage) spec(root *rootfs.FS, cmd command, place *mounted) (engine.Spec, error) {
	name := s.img.Config.User
	if name == "" {
		name = "0"
	}
	user, err := guest.LookupUser(root, name)
	if err != nil {
		return engine.Spec{}, errors.New(err.Error())
	}
	emulator, err := s.Emulator(s.arch)
	if err != nil {
		return engine.Spec{}, err
	}
	spec := engine.Spec{
		Container: "build", Rootfs: root.Path(), Argv: cmd.argv, Env: s.environ(user, place.env),
		WorkDir: s.workdirOf("."), User: engine.User{UID: user.UID, GID: user.GID, Groups: user.Groups},
		AllIDs: s.AllIDs,
		Binds:  place.binds, Tmpfs: place.tmpfs, Arch: s.arch, HostArch: s.Host.Arch, Emulator: emulator,
		Features: engine.Features{KillOnExit: true},
	}
	if !spec.AllIDs {
		spec.Features.Owners = ownersBefore(&s.tree.owners)
	}
	if s.Host.Termux {
		spec.Features = engine.Features{
			HardLinks: true, LinkDir: path.Join(root.Path(), l2s.Dir), LinkSizes: true, SysVIPC: true, KillOnExit: true, Uname: true,
		}
		if err := root.MkdirAll(l2s.Dir, 0o755); err != nil {
			return spec, fmt.Errorf("make the directory of hard links: %w", err)
		}
	}
	programs := guest.Programs{
		Root:  root,
		Runs:  func(a platform.Arch) bool { return emulator != "" && a == s.arch || s.arch.Runs(a) },
		Bound: place.bound,
	}
	program, err := programs.LookPath(cmd.argv[0], envValue(spec.Env, "PATH"), spec.WorkDir)
	if err != nil { // whose exit status is for login and run
		return spec, errors.New(err.Error())
	}
	spec.Shell = guest.POSIXShell(programs)
	spec.Argv = slices.Clone(cmd.argv)
	if !strings.Contains(cmd.argv[0], "/") {
		spec.Argv[0] = program
	}
	return spec, s.wrapLoader(&spec, programs)
}

// environ is the command's environment: ENV and ARG, proxies, HOME.
func (s *stage) environ(user guest.User, more []string) []string {
	env := s.scope.Environ()
	for _, entry := range append(s.file.Proxies(), more...) {
		key, value, _ := strings.Cut(entry, "=")
		env = setEnv(env, key, value)
	}
	if !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "HOME=") }) {
		env = append(env, "HOME="+user.Home)
	}
	return slices.DeleteFunc(env, func(e string) bool { return strings.Contains(e, "\x00") || strings.HasPrefix(e, "=") })
}

func envValue(env []string, key string) string {
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, key+"="); ok {
			return value
		}
	}
	return ""
}

// wrapLoader lets env(1) of the guest set the variables that would act on the engine itself.
func (s *stage) wrapLoader(spec *engine.Spec, programs guest.Programs) error {
	var inner []string
	spec.Env = slices.DeleteFunc(spec.Env, func(entry string) bool {
		acts := strings.HasPrefix(entry, "LD_") || strings.HasPrefix(entry, "PROOT_")
		if acts {
			inner = append(inner, entry)
		}
		return acts
	})
	if inner == nil {
		return nil
	}
	program, err := programs.LookPath("env", defaultPath, "/")
	if err != nil {
		return fmt.Errorf("%s can be set by the image's env program only: %w", inner[0], err)
	}
	spec.Argv = append(append([]string{program}, inner...), spec.Argv...)
	return nil
}

// prepare falls back to users that the engine pretends, and makes do with one that cannot mount all that a RUN may ask for.
func (s *stage) prepare(ctx context.Context, spec *engine.Spec, place *mounted) (engine.Process, error) {
	process, err := s.Prepare(*spec)
	var cannot *engine.Unsupported
	if errors.As(err, &cannot) && spec.AllIDs {
		spec.AllIDs = false
		process, err = s.Prepare(*spec)
	}
	if !errors.As(err, &cannot) || !place.demanding() {
		return process, err
	}
	if err := place.makeDo(ctx, s); err != nil {
		return nil, err
	}
	spec.Binds, spec.Tmpfs = place.binds, nil
	return s.Prepare(*spec)
}

// attend runs the command to its end and keeps the last lines it prints.
func (s *stage) attend(ctx context.Context, process engine.Process) error {
	out := &output{line: s.Output}
	status, err := process.Run(ctx, engine.Stdio{Out: out, Err: out})
	out.close()
	if err != nil {
		return err
	}
	if status != 0 {
		return &CommandError{Step: s.where(), Status: status, Tail: out.tail}
	}
	return nil
}

// where names the step in an error.
func (s *stage) where() string {
	return fmt.Sprintf("stage %s, step %d of %d", s.def.Name, s.stepNumber(), s.total)
}
