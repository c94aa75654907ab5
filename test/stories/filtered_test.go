package stories

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// envFilter makes this test binary a program that becomes another one under the filter of that name.
const envFilter = "PD_STORIES_FILTER"

// filters are policies for system calls, named as the commands that run programs under them.
var filters = map[string]func() []unix.SockFilter{"android": androidFilter, "denied": deniedFilter}

// cmdDenied runs a program as container programs do, which let nobody make user namespaces, and wants an exit code:
//
//	denied CODE PROGRAM [ARG...]
func cmdDenied(ts *testscript.TestScript, neg bool, args []string) {
	runFiltered(ts, "denied", neg, args)
}

// runFiltered runs a program under a filter; args are those of the command.
func runFiltered(ts *testscript.TestScript, filter string, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: %s CODE PROGRAM [ARG...]", filter)
	}
	self, err := os.Executable()
	ts.Check(err)
	ts.Setenv(envFilter, filter)
	code := run(ts, self, args[1:]...)
	ts.Setenv(envFilter, "")
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, not %s", code, args[0])
	}
}

// becomeFiltered gives the rest of this process to a program.
func becomeFiltered(filter []unix.SockFilter, args []string) error {
	program, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	if err := os.Unsetenv(envFilter); err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, errno := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		return errno
	}
	return fmt.Errorf("run %s: %w", program, syscall.Exec(program, args, os.Environ()))
}

// deniedFilter answers EPERM to whoever asks for a user namespace. The flags of clone3(2) are out of a filter's sight,
// so that call does not exist.
func deniedFilter() []unix.SockFilter {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret   = unix.BPF_RET | unix.BPF_K
		flags = 16 // seccomp_data.args[0]; its lower half on little-endian machines
	)
	return []unix.SockFilter{
		{Code: load, K: 0}, // seccomp_data.nr
		{Code: equal, Jf: 1, K: unix.SYS_CLONE3},
		{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: equal, Jt: 1, K: unix.SYS_CLONE},
		{Code: equal, Jf: 3, K: unix.SYS_UNSHARE},
		{Code: load, K: flags},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, Jf: 1, K: unix.CLONE_NEWUSER},
		{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: ret, K: unix.SECCOMP_RET_ALLOW},
	}
}
