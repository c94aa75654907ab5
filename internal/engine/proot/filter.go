package proot

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An abi is one system call table that a guest can use.
type abi int

const (
	abiX86_64 abi = iota // x32 too, which shares the numbers but for a flag
	abiI386
	abiARM
	abiAArch64
	abiRISCV64
	abis
)

// auditArch is seccomp_data.arch of each abi.
var auditArch = [abis]uint32{
	unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_ARM, unix.AUDIT_ARCH_AARCH64, unix.AUDIT_ARCH_RISCV64,
}

// x32Bit marks a system call of the x32 ABI; x32Execveat is the only call below
// that has a number of its own there.
const (
	x32Bit      = 0x40000000
	x32Execveat = 545
)

// A syscallNumbers holds a call's number in every abi, 0 where it must not be
// refused.
type syscallNumbers [abis]uint32

// everywhere is for calls added since Linux 5.1, whose numbers all tables share.
func everywhere(n uint32) syscallNumbers { return syscallNumbers{n, n, n, n, n} }

// newCalls are the system calls younger than proot 5.1.0 that take a path, make
// mounts, or otherwise act behind proot's back, and that programs can do without.
var newCalls = map[string]syscallNumbers{
	"statx":    {332, 383, 397, 291, 291},
	"execveat": {322, 358, 387, 281, 281},
	// riscv64 has no other call to rename with.
	"renameat2":  {316, 353, 382, 276, 0},
	"openat2":    everywhere(437),
	"faccessat2": everywhere(439),
	"fchmodat2":  everywhere(452),

	// io_uring opens files by path without any further system call.
	"io_uring_setup": everywhere(425),
	// proot reads the flags of clone(2) from a register, where clone3 has a pointer:
	// threads would count as processes with a working directory of their own.
	"clone3": everywhere(435),

	"open_tree":      everywhere(428),
	"move_mount":     everywhere(429),
	"fsopen":         everywhere(430),
	"fsconfig":       everywhere(431),
	"fsmount":        everywhere(432),
	"fspick":         everywhere(433),
	"mount_setattr":  everywhere(442),
	"statmount":      everywhere(457),
	"listmount":      everywhere(458),
	"setxattrat":     everywhere(463),
	"getxattrat":     everywhere(464),
	"listxattrat":    everywhere(465),
	"removexattrat":  everywhere(466),
	"open_tree_attr": everywhere(467),
	"file_getattr":   everywhere(468),
	"file_setattr":   everywhere(469),
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

// filterProgram compiles a seccomp filter (see seccomp_unotify(2), bpf(4)) that
// answers ENOSYS to the named calls in every abi, and allows the rest.
func filterProgram(names []string) []unix.SockFilter {
	const offsetNr, offsetArch = 0, 4 // of struct seccomp_data
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	ret := func(action uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
	}
	prog := []unix.SockFilter{load(offsetArch)}
	for a := abiX86_64; a < abis; a++ {
		var numbers []uint32
		for _, name := range names {
			if n := newCalls[name][a]; n != 0 {
				numbers = append(numbers, n)
			}
		}
		block := []unix.SockFilter{load(offsetNr)}
		if a == abiX86_64 {
			block = append(block, unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: ^uint32(x32Bit)})
			if slices.Contains(names, "execveat") {
				numbers = append(numbers, x32Execveat)
			}
		}
		for i, n := range numbers {
			toErrno := uint8(len(numbers) - i) // over the other comparisons and the allow
			block = append(block, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: toErrno, K: n})
		}
		block = append(block, ret(unix.SECCOMP_RET_ALLOW), ret(unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS)))
		prog = append(prog, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: uint8(len(block)), K: auditArch[a]})
		prog = append(prog, block...)
	}
	return append(prog, ret(unix.SECCOMP_RET_ALLOW))
}

// installFilter puts the filter on the calling thread, which must be locked and
// must never run other Go code again. Where the user is not privileged, the
// kernel demands no_new_privs; set-user-ID programs have no effect under an
// unprivileged proot anyway.
func installFilter(names []string) error {
	prog := filterProgram(names)
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
