package proot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
)

// Process is a guest's command under proot, not started yet. It implements
// [engine.Process].
type Process struct {
	bin     string
	options []string
	command []string
	env     []string
	shell   string            // of Spec.Shell
	filter  []unix.SockFilter // nil for none
}

var _ engine.Process = (*Process)(nil)

// statusFD is where a supervising shell writes the command's exit status.
const statusFD = 3

// supervisor runs "$@" and reports its status, 128+N for signal N, on statusFD.
// It survives signals that the terminal sends to all, so as to see what the
// command makes of them; the parentheses restore them for the command. exec
// keeps words such as cd and exit from meaning the shell's own.
var supervisor = fmt.Sprintf(`trap : HUP INT QUIT TERM; (exec "$@" %d>&-); s=$?; echo $s >&%d; exit $s`, statusFD, statusFD)

// argv is the whole command line of proot.
func (p *Process) argv(supervised bool) ([]string, error) {
	argv := append([]string{p.bin}, p.options...)
	if supervised {
		argv = append(argv, p.shell, "-c", supervisor, "sh")
	} else if strings.HasPrefix(p.command[0], "-") {
		return nil, fmt.Errorf("command %q starts with a dash, which proot takes for an option: write ./%s or its full path",
			p.command[0], p.command[0])
	}
	return append(argv, p.command...), nil
}

// Exec implements [engine.Process]. Without a supervising shell it replaces this
// process by proot. With one it stays behind as proot's parent and passes on
// SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2; what the terminal sends reaches the guest
// by itself.
func (p *Process) Exec(keep []*os.File) (int, error) {
	if p.shell != "" {
		return p.supervise(keep)
	}
	argv, err := p.argv(false)
	if err != nil {
		return 0, err
	}
	if err := closeOnExec(); err != nil {
		return 0, err
	}
	for _, f := range keep {
		if err := keepOnExec(f); err != nil {
			return 0, err
		}
	}
	// A directory that was deleted or unmounted would disturb proot.
	if err := os.Chdir("/"); err != nil {
		return 0, fmt.Errorf("start proot: %w", err)
	}
	runtime.LockOSThread() // and never unlock: the filter stays with the thread
	if p.filter != nil {
		if err := installFilter(p.filter); err != nil {
			return 0, fmt.Errorf("start proot: %w", err)
		}
	}
	err = syscall.Exec(p.bin, argv, p.env)
	runtime.KeepAlive(keep)
	return 0, fmt.Errorf("start proot: %s: %w", p.bin, err)
}

// Run implements [engine.Process]. When ctx ends, all processes of the guest are
// killed, and then proot. Without a supervising shell a death by signal is
// reported as proot does it: 128+N by some versions, 255 by 5.1.0.
func (p *Process) Run(ctx context.Context, stdio engine.Stdio) (int, error) {
	cmd := &exec.Cmd{Stdin: stdio.In, Stdout: stdio.Out, Stderr: stdio.Err}
	return p.run(ctx, cmd, nil)
}

func (p *Process) supervise(keep []*os.File) (int, error) {
	// The terminal's own signals are for the guest: this process outlives them.
	defer signal.Stop(engine.CatchSignals(unix.SIGINT, unix.SIGQUIT))
	cmd := &exec.Cmd{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	return p.run(context.Background(), cmd, keep)
}

// run starts cmd as proot and waits for it. Files in keep are open in proot too.
func (p *Process) run(ctx context.Context, cmd *exec.Cmd, keep []*os.File) (int, error) {
	var status *os.File
	if p.shell != "" {
		r, w, err := os.Pipe()
		if err != nil {
			return 0, fmt.Errorf("start proot: %w", err)
		}
		defer r.Close()
		defer w.Close()
		status = r
		cmd.ExtraFiles = append([]*os.File{w}, keep...)
		defer func() { runtime.KeepAlive(keep) }()
	}
	argv, err := p.argv(status != nil)
	if err != nil {
		return 0, err
	}
	cmd.Path, cmd.Args, cmd.Env, cmd.Dir = p.bin, argv, p.env, "/"
	cmd.WaitDelay = time.Second
	if err := closeOnExec(); err != nil {
		return 0, err
	}
	if err := p.start(cmd); err != nil {
		return 0, fmt.Errorf("start proot: %w", err)
	}
	if status != nil {
		cmd.ExtraFiles[0].Close()
	}
	err = attend(ctx, cmd)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return 0, fmt.Errorf("run proot: %w", err)
	}
	if n, ok := reported(status); ok {
		return n, nil
	}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return cmd.ProcessState.ExitCode(), nil
}

// start starts cmd under the filter, from a thread that ends with it.
func (p *Process) start(cmd *exec.Cmd) error {
	if p.filter == nil {
		return cmd.Start()
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := installFilter(p.filter)
		if err == nil {
			err = cmd.Start()
		}
		started <- err
	}()
	return <-started
}

// reported reads the exit status that the supervising shell wrote. It wrote none
// when it was killed itself; guests that outlive proot do not hold this up.
func reported(status *os.File) (int, bool) {
	if status == nil {
		return 0, false
	}
	_ = status.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	text := make([]byte, 8)
	n, _ := status.Read(text)
	code, err := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	return code, err == nil && code >= 0 && code <= 255
}

// attend waits for proot, passing on signals and ending everything with ctx.
func attend(ctx context.Context, cmd *exec.Cmd) error {
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	forward := engine.CatchSignals(unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2)
	defer signal.Stop(forward)
	pid := cmd.Process.Pid
	for {
		select {
		case err := <-done:
			return err
		case s := <-forward:
			signalTracees(pid, s.(syscall.Signal))
		case <-ctx.Done():
			return end(pid, done)
		}
	}
}

// end kills the guest's processes until proot, left without any, exits. Killing
// proot first would set them free, with the host's paths.
func end(pid int, done <-chan error) error {
	const patience = 5 * time.Second
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		signalTracees(pid, unix.SIGKILL)
		select {
		case err := <-done:
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
	_ = unix.Kill(pid, unix.SIGKILL)
	return <-done
}

func signalTracees(pid int, s syscall.Signal) {
	pids, _ := tracees(pid) // /proc is always there where proot is
	for _, tracee := range pids {
		_ = unix.Kill(tracee, s) // it may have ended meanwhile
	}
}

// closeOnExec marks every descriptor but the standard ones: what this process
// inherited is none of the guest's business.
func closeOnExec() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("list open files: %w", err)
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// keepOnExec lets f stay open across execve(2).
func keepOnExec(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("keep %s open: %w", f.Name(), err)
	}
	var errno error
	err = conn.Control(func(fd uintptr) { _, errno = unix.FcntlInt(fd, unix.F_SETFD, 0) })
	if err = errors.Join(err, errno); err != nil {
		return fmt.Errorf("keep %s open: %w", f.Name(), err)
	}
	return nil
}
