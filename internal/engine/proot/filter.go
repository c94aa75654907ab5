package proot

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"proot-distro/internal/seccomp"
)

// newCalls are the system calls younger than proot 5.1.0 that take a path, make
// mounts, or otherwise act behind proot's back, and that programs can do without.
var newCalls = map[string]seccomp.Numbers{
	"statx":    {332, 383, 397, 291, 291},
	"execveat": {322, 358, 387, 281, 281},
	// riscv64 has no other call to rename with.
	"renameat2":  {316, 353, 382, 276, 0},
	"openat2":    seccomp.Everywhere(437),
	"faccessat2": seccomp.Everywhere(439),
	"fchmodat2":  seccomp.Everywhere(452),

	// io_uring opens files by path without any further system call.
	"io_uring_setup": seccomp.Everywhere(425),
	// proot reads the flags of clone(2) from a register, where clone3 has a pointer:
	// threads would count as processes with a working directory of their own.
	"clone3": seccomp.Everywhere(435),

	"open_tree":      seccomp.Everywhere(428),
	"move_mount":     seccomp.Everywhere(429),
	"fsopen":         seccomp.Everywhere(430),
	"fsconfig":       seccomp.Everywhere(431),
	"fsmount":        seccomp.Everywhere(432),
	"fspick":         seccomp.Everywhere(433),
	"mount_setattr":  seccomp.Everywhere(442),
	"statmount":      seccomp.Everywhere(457),
	"listmount":      seccomp.Everywhere(458),
	"setxattrat":     seccomp.Everywhere(463),
	"getxattrat":     seccomp.Everywhere(464),
	"listxattrat":    seccomp.Everywhere(465),
	"removexattrat":  seccomp.Everywhere(466),
	"open_tree_attr": seccomp.Everywhere(467),
	"file_getattr":   seccomp.Everywhere(468),
	"file_setattr":   seccomp.Everywhere(469),
}

// refused chooses the calls to filter, given those of probedCalls that were seen
// to escape proot. Those of them that proot translates stay allowed; none are
// refused when nothing escapes.
func refused(escaping []string) []string {
	if len(escaping) == 0 {
		return nil
	}
	var names []string
	for name := range newCalls {
		if slices.Contains(escaping, name) || !slices.Contains(probedCalls, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// x32Execveat is the only one of newCalls with a number of its own in the x32 ABI.
const x32Execveat = 545

// singleOwner reports whether this process is in a user namespace of one ID. The kernel refuses to give files away there
// by an error that proot does not expect: it does not tell its guest of success then.
func singleOwner() bool {
	data, err := os.ReadFile("/proc/self/uid_map")
	var inside, outside, count uint32
	n, _ := fmt.Sscan(string(data), &inside, &outside, &count)
	return err == nil && n == 3 && count == 1 && bytes.Count(data, []byte{'\n'}) == 1
}

// givingAway are the calls that then succeed without effect.
var givingAway = []seccomp.Numbers{
	seccomp.Chown, seccomp.Lchown, seccomp.Fchown, seccomp.Fchownat, seccomp.Chown16, seccomp.Lchown16, seccomp.Fchown16,
}

// filterProgram compiles a seccomp filter that answers ENOSYS to the named calls in
// every ABI, success to the faked ones, and allows the rest. It is nil when there is nothing to filter.
func filterProgram(names []string, faked []seccomp.Numbers) []unix.SockFilter {
	if len(names)+len(faked) == 0 {
		return nil
	}
	var rules []seccomp.Rule
	for _, call := range faked {
		rules = append(rules, seccomp.Rule{Call: call, Action: seccomp.Errno(0)})
	}
	refuse := func(call seccomp.Numbers) {
		rules = append(rules, seccomp.Rule{Call: call, Action: seccomp.Errno(unix.ENOSYS)})
	}
	for _, name := range names {
		refuse(newCalls[name])
		if name == "execveat" {
			refuse(seccomp.Numbers{seccomp.X86_64: x32Execveat})
		}
	}
	return seccomp.Program(rules, seccomp.LikeX86_64)
}

// installFilter puts the filter on the calling thread, which must be locked and
// must never run other Go code again. Where the user is not privileged, the
// kernel demands no_new_privs; set-user-ID programs have no effect under an
// unprivileged proot anyway.
func installFilter(prog []unix.SockFilter) error {
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	set := func() error {
		_, _, errno := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&fprog)))
		runtime.KeepAlive(prog)
		if errno != 0 {
			return errno
		}
		return nil
	}
	err := set()
	if errors.Is(err, unix.EACCES) {
		if err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err == nil {
			err = set()
		}
	}
	if err != nil {
		return fmt.Errorf("install seccomp filter: %w", err)
	}
	return nil
}

// canFilter reports whether the kernel has seccomp filters that leave proot's
// bookkeeping intact. Before Linux 4.8 a refused call was never seen to be entered
// by the tracer, only to be left.
func canFilter() bool {
	var uts unix.Utsname
	if unix.Uname(&uts) != nil || !atLeast(unix.ByteSliceToString(uts.Release[:]), 4, 8) {
		return false
	}
	// A null filter is EFAULT where filters exist and EINVAL where they do not.
	_, _, errno := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, 0)
	return errno == unix.EFAULT || errno == unix.EACCES
}

// atLeast compares the start of a kernel release such as "6.1.0-35-amd64".
func atLeast(release string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(release, "%d.%d", &a, &b); n != 2 {
		return false
	}
	return a > major || a == major && b >= minor
}
