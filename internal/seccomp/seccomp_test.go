package seccomp

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// data is struct seccomp_data.
type data struct {
	nr, arch uint32
	args     [6]uint64
}

func (d data) bytes() []byte {
	b := binary.LittleEndian.AppendUint32(nil, d.nr)
	b = binary.LittleEndian.AppendUint32(b, d.arch)
	b = binary.LittleEndian.AppendUint64(b, 0) // instruction pointer
	for _, arg := range d.args {
		b = binary.LittleEndian.AppendUint64(b, arg)
	}
	return b
}

// execute interprets the instructions that [Program] makes, as bpf(4) has them.
func execute(t *testing.T, prog []unix.SockFilter, d data) uint32 {
	t.Helper()
	memory := d.bytes()
	var a uint32
	for pc := 0; pc < len(prog); pc++ {
		in := prog[pc]
		jump := func(taken bool) {
			if taken {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		}
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = binary.LittleEndian.Uint32(memory[in.K:])
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= in.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(a == in.K)
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			jump(a&in.K != 0)
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(in.K)
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		default:
			t.Fatalf("instruction %d has code %#x", pc, in.Code)
		}
	}
	t.Fatal("the program does not return")
	return 0
}

var (
	refuse = Errno(unix.EPERM)
	fake   = Errno(0)
	rules  = []Rule{
		{Call: Numbers{16, 54, 54, 29, 29}, Action: refuse, Where: &Argument{Index: 1, Mask: ^uint32(0), Value: 0x5412}},
		{Call: Numbers{16, 54, 54, 29, 29}, Action: fake, Where: &Argument{Index: 1, Mask: 0xf0, Value: 0x20}},
		{Call: Numbers{105, 23, 23, 146, 146}, Action: fake},
		{Call: Numbers{0, 213, 213, 0, 0}, Action: fake},
		{Call: Everywhere(439), Action: Errno(unix.ENOSYS)},
	}
)

func TestProgram(t *testing.T) {
	tests := []struct {
		name string
		data data
		want uint32
	}{
		{"matched", data{nr: 105, arch: unix.AUDIT_ARCH_X86_64}, fake},
		{"another table", data{nr: 105, arch: unix.AUDIT_ARCH_AARCH64}, Allow},
		{"each table has its number", data{nr: 146, arch: unix.AUDIT_ARCH_RISCV64}, fake},
		{"i386", data{nr: 213, arch: unix.AUDIT_ARCH_I386}, fake},
		{"arm", data{nr: 23, arch: unix.AUDIT_ARCH_ARM}, fake},
		{"0 is no number", data{nr: 0, arch: unix.AUDIT_ARCH_X86_64}, Allow},
		{"in all tables", data{nr: 439, arch: unix.AUDIT_ARCH_ARM}, Errno(unix.ENOSYS)},
		{"argument", data{nr: 16, arch: unix.AUDIT_ARCH_X86_64, args: [6]uint64{7, 0x5412}}, refuse},
		{"upper half of an argument", data{nr: 16, arch: unix.AUDIT_ARCH_X86_64, args: [6]uint64{7, 1<<32 | 0x5412}}, refuse},
		{"another argument", data{nr: 16, arch: unix.AUDIT_ARCH_X86_64, args: [6]uint64{0x5412, 0x5401}}, Allow},
		{"mask", data{nr: 16, arch: unix.AUDIT_ARCH_X86_64, args: [6]uint64{0, 0x7f2f}}, fake},
		{"rules after one whose argument differs", data{nr: 23, arch: unix.AUDIT_ARCH_I386, args: [6]uint64{0, 9}}, fake},
		{"x32", data{nr: x32Bit | 1, arch: unix.AUDIT_ARCH_X86_64}, Errno(unix.ENOSYS)},
		{"unknown table", data{nr: 105, arch: unix.AUDIT_ARCH_S390X}, Allow},
	}
	prog := Program(rules, Errno(unix.ENOSYS))
	for _, tt := range tests {
		if got := execute(t, prog, tt.data); got != tt.want {
			t.Errorf("%s: %#x, want %#x", tt.name, got, tt.want)
		}
	}
	like := Program(rules, LikeX86_64)
	if got := execute(t, like, data{nr: x32Bit | 105, arch: unix.AUDIT_ARCH_X86_64}); got != fake {
		t.Errorf("x32 like x86_64: %#x", got)
	}
}

// TestManyRules has blocks longer than a conditional jump reaches.
func TestManyRules(t *testing.T) {
	var many []Rule
	for n := range uint32(200) {
		many = append(many, Rule{Call: Everywhere(1000 + n), Action: Errno(unix.Errno(n + 1))})
	}
	prog := Program(many, LikeX86_64)
	for _, arch := range auditArch {
		for _, n := range []uint32{0, 199} {
			if got := execute(t, prog, data{nr: 1000 + n, arch: arch}); got != Errno(unix.Errno(n+1)) {
				t.Errorf("call %d of table %#x: %#x", n, arch, got)
			}
		}
	}
}
