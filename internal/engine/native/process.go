package native

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
	"proot-distro/internal/guest"
)

// Process is a guest's command that has not been started. It implements
// [engine.Process].
type Process struct {
	spec     engine.Spec
	maps     *idMaps
	features features
	binfmt   bool    // the guest has a table of interpreters of its own
	apt      bool    // the rootfs has apt, whose sandbox needs several IDs
	target   *target // the session to join, if any
	owners   *owners // nil unless they are followed
}

var _ engine.Process = (*Process)(nil)

// Exec implements [engine.Process]. This process stays behind as the parent of the
// supervisor, which keeps the files in keep open until the last guest has ended.
// It passes on SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2; what the terminal sends reaches the
// guest by itself. All these have no other effect on this process any more, which is
// expected to end with the guest.
func (p *Process) Exec(keep []*os.File) (int, error) {
	// The terminal's own signals are for the guest: this process outlives them.
	terminal, signals := engine.CatchSignals(unix.SIGINT, unix.SIGQUIT), engine.CatchSignals(forwarded...)
	fds := make([]int, len(keep))
	for i, f := range keep {
		fds[i] = int(f.Fd())
	}
	defer runtime.KeepAlive(keep)
	defer currentForeground().restore()
	status, err := p.run(context.Background(), [3]int{-1, -1, -1}, fds, signals)
	if err != nil {
		signal.Stop(terminal)
		signal.Stop(signals)
	}
	return status, err
}

// Run implements [engine.Process]. When ctx ends, all processes of the guest are
// killed.
func (p *Process) Run(ctx context.Context, stdio engine.Stdio) (int, error) {
	s, err := openStreams(stdio)
	if err != nil {
		return 0, fmt.Errorf("start guest: %w", err)
	}
	signals := engine.CatchSignals(forwarded...)
	defer signal.Stop(signals)
	status, err := p.run(ctx, s.guest, nil, signals)
	if copyErr := s.finish(); err == nil {
		err = copyErr
	}
	return status, err
}

// run starts the family on a thread that belongs to it until its end, and passes signals on.
func (p *Process) run(ctx context.Context, stdio [3]int, keep []int, signals <-chan os.Signal) (int, error) {
	if p.follows() {
		var err error
		if p.owners, err = known(p.spec); err != nil {
			return 0, fmt.Errorf("look up the owners of files: %w", err)
		}
	}
	channel := pipe{-1, -1}
	if p.emulation().notifies() {
		var err error
		if channel, err = newChannel(); err != nil {
			return 0, err
		}
		defer channel.close()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, err := p.start(descriptors{stdio: stdio, channel: channel[1], keep: keep})
	if err != nil {
		return 0, p.explain(err)
	}
	if p.emulation().notifies() {
		a, err := newAnswerer(p.spec, p.owners, channel)
		if err != nil {
			_ = unix.Kill(pid, unix.SIGKILL)
			_, _ = wait(pid)
			return 0, err
		}
		go a.serve()
		defer a.end()
	}
	done := make(chan struct{})
	defer close(done)
	go attend(ctx, pid, signals, done)
	status, err := wait(pid)
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case err != nil:
		return 0, fmt.Errorf("wait for guest: %w", err)
	case status.Signaled():
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}

// descriptors are what the forked processes have of this one's.
type descriptors struct {
	stdio    [3]int // for the guest; -1 to keep the inherited one
	launcher int    // for the guest, see [launcher]
	channel  int    // where the guest's process sends the listener of its filter
	keep     []int  // for the supervisor, which closes all others
}

// start forks the family. Where a /proc of its own is refused, guests share the host's
// process IDs.
func (p *Process) start(d descriptors) (pid int, err error) {
	if d.launcher, err = openLauncher(filepath.Dir(p.spec.Rootfs)); err != nil {
		return 0, err
	}
	defer unix.Close(d.launcher)
	for {
		f, err := p.family(d)
		if err != nil {
			return 0, err
		}
		pid, err := f.start()
		if p.target != nil || !p.features.pidNamespace || !refusesProc(err) {
			return pid, err
		}
		p.features.pidNamespace = false
	}
}

// explain makes a sentence of a failed step.
func (p *Process) explain(err error) error {
	var step *StepError
	if !errors.As(err, &step) {
		return err
	}
	if !step.exec {
		if p.target == nil {
			// Is it this session or this machine?
			if _, refusal := probe(); refusal != nil {
				return fmt.Errorf("%w: %w", ErrUnavailable, refusal)
			}
		}
		return fmt.Errorf("start container %s: %w", p.spec.Container, err)
	}
	program := &guest.ProgramError{Path: p.spec.Argv[0], Cause: step.Errno.Error(), Status: guest.StatusCannotRun}
	if step.Errno == unix.ENOENT {
		program.Cause, program.Status = "it does not exist in the container", guest.StatusNotFound
	}
	return fmt.Errorf("container %s: %w", p.spec.Container, program)
}

// attend passes signals on to the supervisor, and ends everything with ctx.
func attend(ctx context.Context, pid int, signals <-chan os.Signal, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case s := <-signals:
			_ = unix.Kill(pid, s.(syscall.Signal)) // it may have ended meanwhile
		case <-ctx.Done():
			_ = unix.Kill(pid, unix.SIGKILL)
			return
		}
	}
}

// family plans the session.
func (p *Process) family(d descriptors) (*family, error) {
	f := &family{
		flags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		maps:   p.maps,
		reap:   !p.features.pidNamespace,
		memory: newChildMemory(),
	}
	if p.target != nil {
		f.flags, f.maps = 0, nil
		g := p.guestProcess(d)
		p.target.planJoin(&f.setup, g)
		f.plan(g)
		return f, nil
	}
	if p.features.pidNamespace {
		f.flags |= unix.CLONE_NEWPID
	}
	if p.spec.NoNetwork {
		f.flags |= unix.CLONE_NEWNET
	}
	f.setup.step("set the umask")
	umask := f.setup.do(unix.SYS_UMASK, 0o022) // for mount points
	if err := p.planSetup(&f.setup, max(d.stdio[0], 0)); err != nil {
		return nil, err
	}
	g := p.guestProcess(d)
	g.umask = umask
	f.plan(g)
	return f, nil
}

func (p *Process) guestProcess(d descriptors) guestProcess {
	return guestProcess{descriptors: d, spec: p.spec, single: p.maps.single, joins: p.target != nil, emulation: p.emulation()}
}

// plan adds what follows the setup: the guest's process, and the closing of files in the
// supervisor.
func (f *family) plan(g guestProcess) {
	f.guest = g.plan()
	f.rest.step("close files")
	first := 3
	for _, fd := range append(slices.Sorted(slices.Values(g.keep)), math.MaxInt32) {
		if fd > first {
			f.rest.attempt(0, unix.SYS_CLOSE_RANGE, first, fd-1, 0)
		}
		first = fd + 1
	}
}

// emulation is what the guest's filter has to do.
func (p *Process) emulation() emulation {
	return emulation{
		fakeRoot: p.maps.single && p.root(),
		devices:  p.root() || p.spec.AllIDs, // who is not root may become it
		owners:   p.follows(),
		uname:    p.spec.KernelRelease != "",
		bind:     p.spec.RedirectPorts,
	}
}

// root reports whether the guest's user is root.
func (p *Process) root() bool { return p.spec.User.UID == 0 && p.spec.User.GID == 0 }

// planSetup builds what the guest lives in.
func (p *Process) planSetup(s *plan, stdin int) error {
	t := newTree(s, p.spec.Rootfs)
	t.proc(p.features)
	if p.binfmt {
		t.emulator(p.spec)
	}
	t.sys()
	t.dev(p.maps, terminalPath(stdin))
	for _, m := range p.spec.Tmpfs {
		t.tmpfs(m)
	}
	for _, b := range p.spec.Binds {
		source, err := os.Stat(b.Source)
		if err != nil {
			return fmt.Errorf("cannot bind %s: %w", b.Source, err)
		}
		t.bind(b, source)
	}
	if os.Geteuid() == 0 {
		t.mask()
	}
	if p.apt {
		t.file(engine.AptConfig, aptConfig)
	}
	t.enter(p.spec.ReadOnly)
	if p.spec.NoNetwork {
		t.loopback()
	}
	if p.spec.Hostname != "" {
		s.step("set the hostname")
		s.do(unix.SYS_SETHOSTNAME, p.spec.Hostname, len(p.spec.Hostname))
	}
	if !p.features.pidNamespace {
		s.step("adopt orphans")
		s.do(unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	}
	return nil
}
