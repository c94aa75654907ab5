package seccomp

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestProgram(t *testing.T) {
	const refused = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	prog := Program([]Rule{
		{Call: Numbers{16, 54, 54, 29, 29}, Action: Errno(unix.EPERM), Where: &Argument{Index: 1, Mask: 0xff, Value: 0x12}},
		{Call: Numbers{16, 54, 54, 29, 29}, Action: Notify, Where: &Argument{Index: 0, Mask: ^uint32(0), Value: 7}},
		{Call: Numbers{X86_64: 92}, Action: Errno(0)},
		{Call: Everywhere(437), Action: Notify},
	}, Errno(unix.ENOSYS))
	tests := []struct {
		name     string
		arch, nr uint32
		args     []uint64
		want     uint32
	}{
		{"argument", unix.AUDIT_ARCH_X86_64, 16, []uint64{0, 0x12}, refused},
		{"argument with bits that are masked", unix.AUDIT_ARCH_AARCH64, 29, []uint64{0, 0x512}, refused},
		{"argument with bits above an int", unix.AUDIT_ARCH_X86_64, 16, []uint64{0, 0x12 | 1<<40}, refused},
		{"second rule of the same call", unix.AUDIT_ARCH_RISCV64, 29, []uint64{7, 0x13}, Notify},
		{"no rule for the arguments", unix.AUDIT_ARCH_ARM, 54, []uint64{8, 0x13}, Allow},
		{"faked", unix.AUDIT_ARCH_X86_64, 92, nil, unix.SECCOMP_RET_ERRNO},
		{"number of another table", unix.AUDIT_ARCH_I386, 92, nil, Allow},
		{"call of every table", unix.AUDIT_ARCH_I386, 437, nil, Notify},
		{"x32", unix.AUDIT_ARCH_X86_64, 92 | x32Bit, nil, Errno(unix.ENOSYS)},
		{"x32 bit means nothing elsewhere", unix.AUDIT_ARCH_AARCH64, 29 | x32Bit, []uint64{0, 0x12}, Allow},
		{"another machine", unix.AUDIT_ARCH_S390X, 437, nil, Allow},
	}
	for _, tt := range tests {
		if got := Simulate(prog, tt.arch, tt.nr, tt.args...); got != tt.want {
			t.Errorf("%s: %#x, want %#x", tt.name, got, tt.want)
		}
	}
}

// TestX32SecondRule has two rules of one call, of which the second decides about an x32 call.
func TestX32SecondRule(t *testing.T) {
	ioctl := Numbers{X86_64: 16}
	prog := Program([]Rule{
		{Call: ioctl, Action: Errno(unix.EPERM), Where: &Argument{Index: 1, Mask: ^uint32(0), Value: 0x12}},
		{Call: ioctl, Action: Errno(unix.EACCES), Where: &Argument{Index: 1, Mask: ^uint32(0), Value: 0x13}},
	}, LikeX86_64)
	if got := Simulate(prog, unix.AUDIT_ARCH_X86_64, 16|x32Bit, 0, 0x13); got != Errno(unix.EACCES) {
		t.Errorf("%#x", got)
	}
}

// TestLongProgram has more rules for a table than a conditional jump reaches.
func TestLongProgram(t *testing.T) {
	var rules []Rule
	for n := range uint32(300) {
		rules = append(rules, Rule{Call: Everywhere(1000 + n), Action: Errno(unix.EPERM)})
	}
	prog := Program(rules, LikeX86_64)
	for a, arch := range auditArch {
		for _, tt := range []struct{ nr, want uint32 }{{1000, Errno(unix.EPERM)}, {1299, Errno(unix.EPERM)}, {1300, Allow}} {
			if got := Simulate(prog, arch, tt.nr); got != tt.want {
				t.Errorf("table %d, call %d: %#x, want %#x", a, tt.nr, got, tt.want)
			}
		}
	}
	if got := Simulate(prog, unix.AUDIT_ARCH_X86_64, 1000|x32Bit); got != Errno(unix.EPERM) {
		t.Errorf("x32: %#x", got)
	}
}

func TestHas(t *testing.T) {
	call := Numbers{X86_64: 63, I386: 122}
	for _, tt := range []struct {
		arch, nr uint32
		want     bool
	}{
		{unix.AUDIT_ARCH_X86_64, 63, true}, {unix.AUDIT_ARCH_I386, 122, true}, {unix.AUDIT_ARCH_X86_64, 122, false},
		{unix.AUDIT_ARCH_ARM, 0, false}, {unix.AUDIT_ARCH_S390X, 63, false},
	} {
		if got := call.Has(tt.arch, tt.nr); got != tt.want {
			t.Errorf("table %#x, call %d: %v", tt.arch, tt.nr, got)
		}
	}
}
