// Package session turns a locked container and a person's wishes into an
// [engine.Spec]: which user, which program, which environment, what is bound.
//
// [Session.Login] and [Session.Run] only read. What a spec needs to have in the
// container is written by [Session.Prepare], which a caller who merely prints a
// command line leaves out. Nothing here depends on how an engine works, but for
// one rule: LD_* and PROOT_* variables act on some engines themselves, outside the
// container, and so never come from an image.
package session

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/container"
	"proot-distro/internal/engine"
	"proot-distro/internal/guest"
	"proot-distro/internal/host"
	"proot-distro/internal/l2s"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

// Options are a person's wishes, as login and run share them. The zero value
// asks for nothing special.
type Options struct {
	User       string   // NAME, UID, NAME:GROUP, UID:GID; see [guest.LookupUser]
	Binds      []string // SRC[:DST][:ro]
	SharedHome bool     // the host's home directory in place of the user's
	WorkDir    string   // guest path
	Env        []string // KEY=VALUE, or KEY to take the host's value

	Kernel        string // release of uname -r
	Hostname      string
	RedirectPorts bool
	Network       string   // "host", "none", or "" for host
	ReadOnly      bool     // the container's own files
	Tmpfs         []string // guest paths

	// The rest is for Termux alone.
	Mode         Mode
	SharedTmp    bool // $PREFIX/tmp at /tmp
	SharedX11    bool // the X server's sockets, and the variables that lead to it
	NoHardLinks  bool // leave features of the engine out
	NoSysVIPC    bool
	NoKillOnExit bool

	// FindEmulator returns the host path of the emulator for a guest, or ""
	// when this machine needs none. Nil means that none is ever needed.
	FindEmulator func(guest platform.Arch) (string, error)
}

// Session is a container in which something is about to run.
type Session struct {
	name       string
	dir        string // of the container; the host's path
	rootfsPath string
	tree       *rootfs.FS // to be closed
	root       *rootfs.FS // the same, as proot's guests see its links
	own        func(name string) (*rootfs.FS, error)
	linked     func() (bool, error) // see [container.Container.StandIns]
	host       *host.Host
	rep        report.Reporter
	termux     bool // the container is made of Termux's packages
	allIDs     bool // its files have owners

	arch      platform.Arch
	image     *v1.Image // nil without a readable manifest.json
	recordErr error     // why image is nil
}

// ErrNoManifest is returned by Run for a container that was not made from an image.
var ErrNoManifest = errors.New("it was not installed from an image, so no command is recorded: use login")

// ErrNoCommand is returned by Run when neither the image nor the person names
// a program.
var ErrNoCommand = errors.New("its image defines neither Entrypoint nor Cmd: give a command after --")

// Open reads what is recorded of a locked container. The caller closes the
// session, and the container after it.
func Open(c *container.Container, h *host.Host, rep report.Reporter) (*Session, error) {
	tree, err := c.Rootfs()
	if err != nil {
		return nil, fmt.Errorf("open container %s: %w", c.Name, err)
	}
	s := &Session{
		name: c.Name, dir: c.Dir(), rootfsPath: c.RootfsPath(),
		tree: tree, root: tree.Anchored(l2s.Roots(c.RootfsPath(), "")), own: c.Own, linked: c.StandIns,
		host: h, rep: rep, allIDs: c.AllIDs(),
	}
	record, err := c.Record()
	s.init(record, err)
	return s, nil
}

// init takes what manifest.json says; a damaged one costs a login its image
// environment only.
func (s *Session) init(record *oci.Record, err error) {
	s.termux = s.isTermux()
	hints := guest.ArchHints{Prefix: guestPrefix, Host: s.host.Arch}
	var image v1.Image
	if err == nil {
		hints.Manifest = record.Arch
		image, err = record.Image()
	}
	if err == nil {
		s.image = &image
		hints.Entrypoint = imageCommand(image.Config, nil)
	}
	s.recordErr = err
	s.arch = guest.DetectArch(s.root, hints)
}

// Close releases the session's hold of the root filesystem.
func (s *Session) Close() error { return s.tree.Close() }

// Arch is the container's architecture.
func (s *Session) Arch() platform.Arch { return s.arch }

// Login returns the spec of a login shell, or of a command run by it. Words of
// the command arrive as they were given: the shell sees each one quoted.
func (s *Session) Login(o Options, command []string) (engine.Spec, error) {
	if s.recordErr != nil && !errors.Is(s.recordErr, fs.ErrNotExist) {
		s.rep.Warnf("the image's environment is not applied: %v", s.recordErr)
	}
	spec, user, err := s.base(o, "root")
	if err != nil {
		return engine.Spec{}, err
	}
	if spec.WorkDir, err = s.loginDir(o, spec, user); err != nil {
		return engine.Spec{}, err
	}
	if s.termux {
		return s.termuxLogin(spec, command)
	}
	shell, err := guest.LoginShell(s.programs(spec), user)
	if err != nil {
		return engine.Spec{}, fmt.Errorf("container %s: %w", s.name, err)
	}
	if user.HasShell() && shell != user.Shell {
		s.rep.Warnf("the shell of user %s (%s) cannot be used; taking %s", user.Name, user.Shell, shell)
	}
	spec.Argv = []string{shell, "-l"}
	if len(command) > 0 {
		spec.Argv = append(spec.Argv, "-c", quoteAll(command))
		spec.Shell = guest.POSIXShell(s.programs(spec))
	}
	return s.finish(spec)
}

// Run returns the spec of the image's own program as `docker run` would start it:
// args replace Cmd, and the image's User and WorkingDir hold unless o says otherwise.
func (s *Session) Run(o Options, args []string) (engine.Spec, error) {
	switch {
	case errors.Is(s.recordErr, fs.ErrNotExist):
		return engine.Spec{}, fmt.Errorf("cannot run container %s: %w", s.name, ErrNoManifest)
	case s.recordErr != nil:
		return engine.Spec{}, fmt.Errorf("read manifest of container %s: %w", s.name, s.recordErr)
	}
	argv := imageCommand(s.image.Config, args)
	if len(argv) == 0 {
		return engine.Spec{}, fmt.Errorf("cannot run container %s: %w", s.name, ErrNoCommand)
	}
	fallback := s.image.Config.User
	if fallback == "" {
		fallback = "root"
	}
	spec, _, err := s.base(o, fallback)
	if err != nil {
		return engine.Spec{}, err
	}
	if spec.WorkDir, err = s.runDir(o, spec); err != nil {
		return engine.Spec{}, err
	}
	programs := s.programs(spec)
	program, err := programs.LookPath(argv[0], cmp.Or(variable(spec.Env, "PATH"), defaultPath), spec.WorkDir)
	if err != nil {
		return engine.Spec{}, fmt.Errorf("container %s: %w", s.name, err)
	}
	spec.Argv = append([]string{program}, argv[1:]...)
	if !isBareShell(spec.Argv) {
		spec.Shell = guest.POSIXShell(programs)
	}
	return s.finish(spec)
}

// base fills in what login and run have in common: all but Argv and WorkDir.
// The defaultUser serves when o names none.
func (s *Session) base(o Options, defaultUser string) (engine.Spec, guest.User, error) {
	if err := validateNames(o); err != nil {
		return engine.Spec{}, guest.User{}, err
	}
	if o.User != "" {
		defaultUser = o.User
	}
	user, err := s.user(defaultUser, o.User != "")
	if err != nil {
		return engine.Spec{}, guest.User{}, fmt.Errorf("container %s: %w", s.name, err)
	}
	spec := engine.Spec{
		Container:     s.name,
		Rootfs:        s.rootfsPath,
		User:          engine.User{UID: user.UID, GID: user.GID, Groups: user.Groups, Real: s.termux},
		AllIDs:        s.allIDs,
		Hostname:      o.Hostname,
		KernelRelease: o.Kernel,
		RedirectPorts: o.RedirectPorts,
		NoNetwork:     o.Network == networkNone,
		ReadOnly:      o.ReadOnly,
		Arch:          s.arch,
		HostArch:      s.host.Arch,
		Features:      s.features(o),
		Silent:        o.Mode == Minimal,
	}
	if o.FindEmulator != nil {
		spec.Emulator, err = o.FindEmulator(s.arch)
		if err = s.checkForeign(spec.Emulator, err); err != nil {
			return engine.Spec{}, guest.User{}, err
		}
	}
	if spec.Tmpfs, err = tmpfs(o.Tmpfs); err != nil {
		return engine.Spec{}, guest.User{}, err
	}
	if spec.Binds, err = s.binds(o, user, spec.Emulator != ""); err != nil {
		return engine.Spec{}, guest.User{}, err
	}
	if spec.Env, err = s.environment(o, user); err != nil {
		return engine.Spec{}, guest.User{}, err
	}
	return spec, user, nil
}

// programs examines the container as the spec's guest will see it.
func (s *Session) programs(spec engine.Spec) guest.Programs {
	return guest.Programs{
		Root: s.root,
		Runs: func(arch platform.Arch) bool {
			return arch == spec.Arch || spec.Emulator == "" && spec.HostArch.Runs(arch)
		},
		Bound: func(guestPath string) (string, bool) { return bound(spec.Binds, guestPath) },
	}
}

// finish moves the variables that would act on an engine itself behind the
// guest's env program.
func (s *Session) finish(spec engine.Spec) (engine.Spec, error) {
	var env, inner []string
	for _, entry := range spec.Env {
		if isLoader(entry) {
			inner = append(inner, entry)
		} else {
			env = append(env, entry)
		}
	}
	if len(inner) == 0 {
		return spec, nil
	}
	program, err := s.programs(spec).LookPath("env", defaultPath, "/")
	if err != nil {
		return engine.Spec{}, fmt.Errorf("container %s: --env %s needs the env program: %w", s.name, inner[0], err)
	}
	spec.Env = env
	spec.Argv = append(append([]string{program}, inner...), spec.Argv...)
	return spec, nil
}
