package native

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file starts processes without the start-up time of a second Go program:
// clone(2) without CLONE_VM gives the child a copy of this process with one thread
// of it, in which Go's scheduler, stack growth and allocation do not work. The child
// runs nothing but the functions marked nosplit below, which make prepared system
// calls. That is what package syscall does between fork and exec; the three
// functions of the runtime that it does it with are kept linkable for others.

//go:linkname runtimeBeforeFork syscall.runtime_BeforeFork
func runtimeBeforeFork()

//go:linkname runtimeAfterFork syscall.runtime_AfterFork
func runtimeAfterFork()

//go:linkname runtimeAfterForkInChild syscall.runtime_AfterForkInChild
func runtimeAfterForkInChild()

// A family is a supervisor and the guest's first process, both to be forked.
//
// The supervisor is the first process of the pid namespace where there is one. It
// runs setup, forks the guest's process, runs rest, and then reaps children and
// passes on signals until the guest's process ends, with whose status it exits.
type family struct {
	flags uintptr // of clone(2)
	maps  *idMaps // of the new user namespace; nil without one
	// mapping is run first, where maps are single: these the supervisor may set itself, which takes less
	// time than the parent does.
	mapping plan
	setup   plan // by the supervisor
	guest   plan // by the guest's process; ends in execve(2), or in an exit
	rest    plan // by the supervisor, once it has forked
	// reap has the supervisor kill what the guest leaves behind: without a pid
	// namespace nothing else does.
	reap bool

	memory *childMemory
}

// childMemory is what the forked processes read and write; it lies on the heap,
// whose addresses do not change.
type childMemory struct {
	goAhead       int32 // descriptor to read from before setup
	failed        int32 // descriptor to report failures to
	report        failureReport
	status        uint32 // of wait4(2)
	oldMask, mask uint64 // sigset_t of the caller, and a full one
	wanted        uint64 // signals that the supervisor waits for
	buffer        [512]byte
	children      [32]byte // path of a list
}

// failureReport travels through a pipe. Plan is 0 for setup, 1 for guest, 2 for mapping. The [launcher] sends
// four bytes instead, the negative error.
type failureReport struct {
	plan, step, errno int32
}

const launcherReport = 4

// forwarded are the signals that go on to the guest's first process. Those of the
// terminal reach it by themselves.
var forwarded = []os.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2}

func newChildMemory() *childMemory {
	m := &childMemory{mask: ^uint64(0), wanted: 1 << (unix.SIGCHLD - 1)}
	for _, s := range forwarded {
		m.wanted |= 1 << (s.(syscall.Signal) - 1)
	}
	copy(m.children[:], "/proc/thread-self/children")
	return m
}

// StepError says at which step a process could not be set up.
type StepError struct {
	Step  string // completes "cannot …"
	Errno unix.Errno
	exec  bool
}

// Fix says what to do about it where a machine cannot be used at all.
func (e *StepError) Fix() string {
	switch {
	case e.Step == stepNamespaces && e.Errno == unix.ENOSPC:
		return "This system allows no further user namespaces: raise the limit in /proc/sys/user/max_user_namespaces, or take --engine proot."
	case e.Errno == unix.EPERM || e.Errno == unix.EACCES:
		return "Something forbids user namespaces here, such as a container, a chroot or a security policy: allow them, or take --engine proot."
	case e.Errno == unix.ENOSYS:
		return "The native engine needs Linux 5.12 or newer: take --engine proot."
	}
	return "Take --engine proot."
}

// stepNamespaces is the forking of the supervisor.
const stepNamespaces = "create namespaces"

func (e *StepError) Error() string { return fmt.Sprintf("cannot %s: %v", e.Step, e.Errno) }
func (e *StepError) Unwrap() error { return e.Errno }

// start forks the family and returns once the guest's program runs; the process ID
// is the supervisor's. The calling goroutine must be locked to its thread and
// stay with it: the family dies with that thread.
func (f *family) start() (pid int, err error) {
	if err := errors.Join(f.setup.err, f.guest.err); err != nil {
		return 0, err
	}
	goAhead, failed, err := pipes()
	if err != nil {
		return 0, err
	}
	defer failed.close()
	if failed[1], err = aboveReport(failed[1]); err != nil {
		goAhead.close()
		return 0, fmt.Errorf("copy a descriptor: %w", err)
	}
	if f.guest.report != nil {
		f.guest.report.args[0] = uintptr(failed[1])
	}
	if f.maps != nil && f.maps.single {
		f.mapping = f.maps.plan()
	}
	f.memory.goAhead, f.memory.failed = int32(goAhead[0]), int32(failed[1])
	syscall.ForkLock.Lock()
	pid, errno := f.fork()
	syscall.ForkLock.Unlock()
	if errno != 0 {
		goAhead.close()
		return 0, &StepError{Step: stepNamespaces, Errno: errno}
	}
	unix.Close(failed[1])
	failed[1] = -1
	unix.Close(goAhead[0])
	goAhead[0] = -1
	if f.maps != nil && !f.maps.single {
		err = f.maps.write(pid)
	}
	if err == nil {
		_, err = unix.Write(goAhead[1], []byte{0})
	}
	goAhead.close()
	if err == nil {
		err = f.readReport(failed[0], pid)
	}
	runtime.KeepAlive(f)
	if err != nil {
		_, _ = wait(pid) // it has nothing left to do
		return 0, err
	}
	return pid, nil
}

// readReport waits for a report, or for none. What comes from the [launcher] a guest may have
// written, or may keep from ending.
func (f *family) readReport(fd, supervisor int) error {
	var r failureReport
	size := int(unsafe.Sizeof(r))
	n, err := readWhileAlive(fd, supervisor, unsafe.Slice((*byte)(unsafe.Pointer(&r)), size))
	if err != nil {
		return fmt.Errorf("start guest: %w", err)
	}
	p := f.setup
	switch {
	case n == launcherReport:
		steps := f.guest.steps
		return &StepError{Step: steps[len(steps)-1], Errno: unix.Errno(-r.plan), exec: true}
	case n != size:
		return nil // closed by execve(2), or by the exit of a probe
	case r.plan == 1:
		p = f.guest
	case r.plan == 2:
		p = f.mapping
	}
	if r.step < 0 || int(r.step) >= len(p.calls) {
		return errors.New("start guest: a strange report came from it")
	}
	c := p.calls[r.step]
	return &StepError{Step: p.steps[c.step], Errno: unix.Errno(r.errno), exec: r.errno == int32(unix.E2BIG)}
}

// readWhileAlive reads from a pipe, or returns 0 when a child has ended.
func readWhileAlive(fd, pid int, buf []byte) (int, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(pidfd)
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(pidfd), Events: unix.POLLIN}}
		switch _, err := unix.Poll(fds, -1); {
		case err == unix.EINTR:
		case err != nil:
			return 0, err
		case fds[0].Revents != 0:
			return unix.Read(fd, buf)
		default:
			return 0, nil
		}
	}
}

// wait waits for a child's end.
func wait(pid int) (unix.WaitStatus, error) {
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &status, 0, nil)
		if err != unix.EINTR {
			return status, err
		}
	}
}

// A pipe is a pair of descriptors, -1 where closed.
type pipe [2]int

func (p *pipe) close() {
	for i, fd := range p {
		if fd >= 0 {
			unix.Close(fd)
			p[i] = -1
		}
	}
}

func pipes() (a, b pipe, err error) {
	if err = unix.Pipe2(a[:], unix.O_CLOEXEC); err != nil {
		return a, b, fmt.Errorf("make a pipe: %w", err)
	}
	if err = unix.Pipe2(b[:], unix.O_CLOEXEC); err != nil {
		a.close()
		return a, b, fmt.Errorf("make a pipe: %w", err)
	}
	return a, b, nil
}

// fork returns in the parent only.
//
//go:noinline
//go:norace
//go:nocheckptr
func (f *family) fork() (pid int, errno unix.Errno) {
	runtimeBeforeFork()
	r, _, e := syscall.RawSyscall6(unix.SYS_CLONE, f.flags|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if e == 0 && r == 0 {
		runtimeAfterForkInChild()
		f.supervisor()
	}
	runtimeAfterFork()
	return int(r), e
}

// supervisor is the life of the first child.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (f *family) supervisor() {
	m := f.memory
	// Before the parent is known to live: it may have died already.
	syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0, 0)
	n, _, _ := syscall.RawSyscall6(unix.SYS_READ, uintptr(m.goAhead), uintptr(unsafe.Pointer(&m.buffer)), 1, 0, 0, 0)
	if n != 1 {
		exit(1)
	}
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK,
		uintptr(unsafe.Pointer(&m.mask)), uintptr(unsafe.Pointer(&m.oldMask)), 8, 0, 0)
	m.run(f.mapping.calls, 2)
	m.run(f.setup.calls, 0)
	guest, _, e := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if e != 0 {
		m.fail(0, 0, uintptr(e))
	}
	if guest == 0 {
		syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK,
			uintptr(unsafe.Pointer(&m.oldMask)), 0, 8, 0, 0)
		m.run(f.guest.calls, 1)
		exit(0) // a probe's plan comes here
	}
	m.run(f.rest.calls, 0)
	m.supervise(guest, f.reap)
}

// run makes the calls of a plan and ends the process at the first that fails.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (m *childMemory) run(calls []*call, planIndex int32) {
	skip := 0
	for i, c := range calls {
		if skip > 0 {
			skip--
			continue
		}
		for j := range c.from {
			if c.from[j] != nil {
				c.args[j] = c.from[j].result
			}
		}
		r, _, e := syscall.RawSyscall6(c.nr, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
		if e != 0 {
			if !c.tolerated {
				m.fail(planIndex, int32(i), uintptr(e))
			}
			skip = c.skip
			continue
		}
		c.result = r
		if c.copyTo != nil {
			*c.copyTo = int32(r)
		}
	}
}

// fail reports to the parent and ends the process.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (m *childMemory) fail(planIndex, step int32, errno uintptr) {
	m.report.plan, m.report.step, m.report.errno = planIndex, step, int32(errno)
	syscall.RawSyscall6(unix.SYS_WRITE, uintptr(m.failed), uintptr(unsafe.Pointer(&m.report)), unsafe.Sizeof(m.report), 0, 0, 0)
	exit(1)
}

//go:nosplit
//go:norace
func exit(code uintptr) {
	for {
		syscall.RawSyscall6(unix.SYS_EXIT_GROUP, code, 0, 0, 0, 0, 0)
	}
}

// supervise reaps children and passes signals on to the guest's first process until
// that ends, then exits with its status.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (m *childMemory) supervise(guest uintptr, reap bool) {
	for {
		for {
			pid, _, e := syscall.RawSyscall6(unix.SYS_WAIT4, ^uintptr(0), uintptr(unsafe.Pointer(&m.status)), unix.WNOHANG, 0, 0, 0)
			if e != 0 || pid == 0 {
				break
			}
			if pid != guest {
				continue
			}
			code := uintptr(m.status>>8) & 0xff
			if signal := uintptr(m.status) & 0x7f; signal != 0 {
				code = 128 + signal
			}
			if reap {
				m.killChildren()
			}
			exit(code)
		}
		signal, _, e := syscall.RawSyscall6(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&m.wanted)), 0, 0, 8, 0, 0)
		if e == 0 && signal != uintptr(unix.SIGCHLD) {
			syscall.RawSyscall6(unix.SYS_KILL, guest, signal, 0, 0, 0, 0)
		}
	}
}

// killChildren ends what the guest left behind: orphans become children of this
// process, a subreaper, generation after generation.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (m *childMemory) killChildren() {
	for {
		fd, _, e := syscall.RawSyscall6(unix.SYS_OPENAT, ^uintptr(99), uintptr(unsafe.Pointer(&m.children)), unix.O_RDONLY, 0, 0, 0)
		if e != 0 {
			return
		}
		n, _, _ := syscall.RawSyscall6(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&m.buffer)), unsafe.Sizeof(m.buffer), 0, 0, 0)
		syscall.RawSyscall6(unix.SYS_CLOSE, fd, 0, 0, 0, 0, 0)
		pid, killed := uintptr(0), false
		for i := range m.buffer {
			if uintptr(i) >= n {
				break
			}
			if c := m.buffer[i]; c >= '0' && c <= '9' {
				pid = pid*10 + uintptr(c-'0')
				continue
			}
			syscall.RawSyscall6(unix.SYS_KILL, pid, uintptr(unix.SIGKILL), 0, 0, 0, 0)
			pid, killed = 0, true
		}
		if !killed {
			return
		}
		syscall.RawSyscall6(unix.SYS_WAIT4, ^uintptr(0), 0, 0, 0, 0, 0)
	}
}

// procPath is a file of another process in /proc.
func procPath(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }
