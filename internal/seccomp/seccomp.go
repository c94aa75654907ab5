// Package seccomp compiles short lists of rules into seccomp filters (BPF programs,
// seccomp(2)), for every system call table that a guest of this machine can use.
//
// A filter that knew only one table would be left by a guest that switches to
// another: on x86_64 any program can make i386 calls. So a [Rule] names a call by
// its number in each table, and a program decides by the table first.
package seccomp

import "golang.org/x/sys/unix"

// ABI is one system call table.
type ABI int

// The tables of the architectures that containers run on. X86_64 covers x32,
// which shares its numbers but for a flag and some calls of its own.
const (
	X86_64 ABI = iota
	I386
	ARM
	AArch64
	RISCV64
	ABIs // how many there are
)

// auditArch is seccomp_data.arch of each table.
var auditArch = [ABIs]uint32{
	unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_ARM, unix.AUDIT_ARCH_AARCH64, unix.AUDIT_ARCH_RISCV64,
}

// x32Bit marks a call of the x32 ABI.
const x32Bit = 0x40000000

// Numbers holds a call's number in every table, 0 where it is not to be matched.
// (Number 0 is read, io_setup or restart_syscall, with which no rule has business.)
type Numbers [ABIs]uint32

// Everywhere is for calls added since Linux 5.1, whose numbers all tables share.
func Everywhere(n uint32) Numbers { return Numbers{n, n, n, n, n} }

// Has reports whether nr is the call's number in the table that seccomp_data.arch names.
func (n Numbers) Has(arch, nr uint32) bool {
	for a := range ABIs {
		if auditArch[a] == arch {
			return n[a] != 0 && n[a] == nr
		}
	}
	return false
}

// Errno makes an action that answers a call with an error, or with success for 0,
// without running it.
func Errno(e unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(e)&unix.SECCOMP_RET_DATA }

// Actions beside [Errno]. Notify asks the supervisor that holds the listener.
const (
	Allow  uint32 = unix.SECCOMP_RET_ALLOW
	Notify uint32 = unix.SECCOMP_RET_USER_NOTIF
)

// A Rule is what to do with a call.
type Rule struct {
	Call   Numbers
	Action uint32
	// Where, if not nil, restricts the rule to calls with such an argument.
	Where *Argument
}

// Argument matches the low 32 bits of a call's argument: Value after Mask was applied.
// The kernel itself looks at no more of an int.
type Argument struct {
	Index       int // from 0
	Mask, Value uint32
}

// Program compiles rules, of which the first that matches decides; other calls are
// allowed. x32 is the action for calls of the x32 ABI, or [LikeX86_64].
func Program(rules []Rule, x32 uint32) []unix.SockFilter {
	prog := []unix.SockFilter{load(offsetArch)}
	for a := range ABIs {
		block := tableProgram(rules, a, x32)
		// Conditional jumps reach 255 instructions at most.
		prog = append(prog,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, K: auditArch[a]},
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(len(block))})
		prog = append(prog, block...)
	}
	return append(prog, ret(Allow))
}

// LikeX86_64, given for x32, has x32 calls obey the rules of x86_64.
const LikeX86_64 uint32 = 0xffffffff

// Offsets in struct seccomp_data. All tables are little-endian.
const (
	offsetNr   = 0
	offsetArch = 4
	offsetArgs = 16
)

// tableProgram is the part for one table; it always returns.
func tableProgram(rules []Rule, a ABI, x32 uint32) []unix.SockFilter {
	block := []unix.SockFilter{load(offsetNr)}
	switch {
	case a != X86_64:
	case x32 == LikeX86_64:
		block = append(block, unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: ^uint32(x32Bit)})
	default:
		block = append(block,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, Jf: 1, K: x32Bit}, ret(x32))
	}
	for _, r := range rules {
		if r.Call[a] != 0 {
			block = append(block, r.program(r.Call[a])...)
		}
	}
	return append(block, ret(Allow))
}

// program leaves the call's number in the accumulator when it does not match.
func (r Rule) program(nr uint32) []unix.SockFilter {
	if r.Where == nil {
		return []unix.SockFilter{{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: nr}, ret(r.Action)}
	}
	return []unix.SockFilter{
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 5, K: nr},
		load(offsetArgs + 8*uint32(r.Where.Index)),
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: r.Where.Mask},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: r.Where.Value},
		ret(r.Action),
		{Code: unix.BPF_LD | unix.BPF_IMM, K: nr}, // without the flag of x32
	}
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func ret(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}
