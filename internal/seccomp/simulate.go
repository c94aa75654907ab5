package seccomp

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Simulate decides about a call as the kernel would, for tests of filters: those of
// other machines' tables cannot be tried. arch is seccomp_data.arch, nr and args are the
// call. It panics at instructions that [Program] does not use.
func Simulate(prog []unix.SockFilter, arch, nr uint32, args ...uint64) (action uint32) {
	var acc uint32
	for pc := 0; ; pc++ {
		switch in := prog[pc]; in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = field(in.K, arch, nr, args)
		case unix.BPF_LD | unix.BPF_IMM:
			acc = in.K
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= in.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			pc += branch(in, acc == in.K)
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			pc += branch(in, acc&in.K != 0)
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(in.K)
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		default:
			panic(fmt.Sprintf("instruction %d: code %#x", pc, in.Code))
		}
	}
}

func branch(in unix.SockFilter, taken bool) int {
	if taken {
		return int(in.Jt)
	}
	return int(in.Jf)
}

// field loads a word of struct seccomp_data.
func field(offset, arch, nr uint32, args []uint64) uint32 {
	switch {
	case offset == offsetNr:
		return nr
	case offset == offsetArch:
		return arch
	}
	i, high := (offset-offsetArgs)/8, (offset-offsetArgs)%8 != 0
	switch {
	case int(i) >= len(args):
		return 0
	case high:
		return uint32(args[i] >> 32)
	}
	return uint32(args[i])
}
