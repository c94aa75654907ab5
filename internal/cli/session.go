package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"proot-distro/internal/container"
	"proot-distro/internal/engine"
	"proot-distro/internal/engine/native"
	"proot-distro/internal/platform"
	"proot-distro/internal/session"
)

// sessionOptions are the options of login and run.
type sessionOptions struct {
	wishes      session.Options
	engine      string
	emulator    string
	envFiles    []string
	getProotCmd bool
	detach      bool
	command     []string // what stands after --
}

// sessionRequest is one session to start.
type sessionRequest struct {
	verb      string // login or run
	container string
	options   sessionOptions
	compose   func(*session.Session, session.Options) (engine.Spec, error)
}

func (a *App) sessionFlags(cmd *cobra.Command, o *sessionOptions) {
	f, w := cmd.Flags(), &o.wishes
	f.StringVarP(&w.User, "user", "u", "", "become `USER`: a name, a UID, NAME:GROUP or UID:GID (default root)")
	f.BoolVarP(&w.RedirectPorts, "redirect-ports", "P", false, "move privileged ports up: 22 becomes 2022, 80 becomes 2080")
	f.BoolVar(&w.SharedHome, "shared-home", false, "see the host's home directory in place of the user's")
	f.StringArrayVarP(&w.Binds, "bind", "b", nil, "make the host's `SRC[:DST]` visible in the container (repeatable)")
	f.StringVar(&o.engine, "engine", "", "run it with `ENGINE`: native (namespaces of the kernel), proot, or auto (default auto)")
	a.usernsFlag(cmd, "let the container have one user ID or many, from now on: `IDS` is single or full")
	f.StringVar(&o.emulator, "emulator", "", "run a foreign architecture through the emulator at `PATH`")
	f.StringVar(&w.Kernel, "kernel", "", "let uname -r say `STRING` (default: the host's; on Termux 6.17.0-PRoot-Distro)")
	f.StringVar(&w.Hostname, "hostname", "", "let the hostname be `STRING` (default: the host's; on Termux localhost)")
	f.StringVar(&w.Network, "network", "", "`MODE`: host shares the host's network, none has only a loopback device (default host)")
	f.BoolVar(&w.ReadOnly, "read-only", false, "protect the container's files from changes")
	f.StringArrayVar(&w.Tmpfs, "tmpfs", nil, "mount an empty temporary filesystem at `PATH` of the container (repeatable)")
	f.StringVarP(&w.WorkDir, "work-dir", "w", "", "start in `PATH` of the container (default: the user's home; with run, what the image says)")
	f.StringArrayVarP(&w.Env, "env", "e", nil, "set `VAR=VALUE` in the container; VAR alone takes the host's value (repeatable)")
	a.envFileFlag(cmd, &o.envFiles)
	f.BoolVarP(&o.detach, "detach", "d", false, "stay in the background, with no input and no output; print the process ID")
	f.BoolVar(&o.getProotCmd, "get-proot-cmd", false, "print the proot command line and exit")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "say which engine is taken, and why not the other")
	_ = cmd.MarkFlagFilename("emulator")
	_ = cmd.MarkFlagDirname("bind")
	a.termuxFlags(cmd, w)
}

// runSession opens the container, composes what is to run, prepares the engine and
// becomes the guest.
func (a *App) runSession(req sessionRequest) error {
	c, err := a.openContainer(req)
	if err != nil {
		return err
	}
	defer c.Close()
	return SessionError(a.startSession(c, req))
}

// openContainer takes the shared lock, which goes on to the guest.
func (a *App) openContainer(req sessionRequest) (*container.Container, error) {
	store, err := a.Store()
	if err != nil {
		return nil, err
	}
	if err := a.recordUserns(store, req); err != nil {
		return nil, SessionError(err)
	}
	return store.Open(req.container, container.Shared, req.verb)
}

func (a *App) startSession(c *container.Container, req sessionRequest) error {
	h, err := a.Host()
	if err != nil {
		return err
	}
	s, err := session.Open(c, h, a.UI)
	if err != nil {
		return err
	}
	defer s.Close()
	wishes := req.options.wishes
	if wishes.Env, err = a.readEnvFiles(req.options.envFiles, wishes.Env); err != nil {
		return err
	}
	wishes.FindEmulator = func(guest platform.Arch) (string, error) {
		return engine.FindEmulator(h, guest, req.options.emulator)
	}
	spec, err := req.compose(s, wishes)
	if err != nil {
		return err
	}
	if req.options.getProotCmd {
		return a.printProotCommand(h, spec, req.options.engine)
	}
	choice := engineChoice{wish: req.options.engine, native: untriedNative}
	detached := a.Getenv(detachedEnv) != ""
	if req.options.detach && !detached {
		choice.native = native.New // here, where somebody reads why not
		if _, _, err := a.prepareProcess(h, spec, choice); err != nil {
			return err
		}
		return a.detach()
	}
	entry := container.Session{
		PID: os.Getpid(), Container: c.Name, Command: spec.Argv, Arch: spec.Arch,
		User: userName(spec), Started: time.Now(), Detached: detached,
	}
	if entry.Setup, err = json.Marshal(spec); err != nil {
		return fmt.Errorf("register session: %w", err)
	}
	run := func() error {
		process, engineName, err := a.prepareProcess(h, spec, choice)
		if err != nil {
			return err
		}
		a.UI.Detailf("Engine: %s", engineName)
		if err := s.Prepare(spec); err != nil {
			return err
		}
		entry.Engine = engineName
		return a.become(c, process, entry)
	}
	err = run()
	if wish, _ := a.engineWish(choice.wish); wish == engineAuto && errors.Is(err, native.ErrUnavailable) {
		choice.refusal = err // not tried before, as that takes time
		err = run()
	}
	a.hintIdentity(err, entry.Engine, spec)
	return err
}

// become registers the session and gives this process to the guest. Lock and
// registration are open files that live as long as the guest does.
func (a *App) become(c *container.Container, process engine.Process, entry container.Session) error {
	store, err := a.Store()
	if err != nil {
		return err
	}
	registered, err := store.Register(entry)
	if err != nil {
		return err
	}
	defer func() {
		registered.Close()
		_ = store.Unregister(entry.PID) // at worst, the next who lists sessions does
	}()
	a.ReleaseSignals()
	status, err := process.Exec([]*os.File{c.LockFile(), registered})
	if err != nil {
		return err
	}
	return GuestStatus(status)
}

// userName is what the guest calls its user.
func userName(spec engine.Spec) string {
	for _, entry := range spec.Env {
		if name, ok := strings.CutPrefix(entry, "USER="); ok {
			return name
		}
	}
	return fmt.Sprint(spec.User.UID)
}

// detachedEnv marks the background copy of this program: it has the same
// command line.
const detachedEnv = "PD_DETACHED"

// detach starts this program once more in a session of its own (setsid(2)) with
// nothing to read and nowhere to write, and waits until the guest is
// registered. What could go wrong has been checked by the caller already.
func (a *App) detach() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	child := exec.Command(self, a.args...)
	child.Env = append(os.Environ(), detachedEnv+"=1")
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		return fmt.Errorf("start in the background: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	for !a.registered(child.Process.Pid) {
		select {
		case err := <-ended:
			if err == nil {
				a.UI.Line(fmt.Sprint(child.Process.Pid))
				return nil
			}
			return fmt.Errorf("the session ended at once (%w): run it without --detach to see why", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	a.UI.Line(fmt.Sprint(child.Process.Pid))
	return nil
}

func (a *App) registered(pid int) bool {
	store, err := a.Store()
	if err != nil {
		return false
	}
	sessions, err := store.Sessions()
	return err == nil && slices.ContainsFunc(sessions, func(s container.Session) bool { return s.PID == pid })
}
