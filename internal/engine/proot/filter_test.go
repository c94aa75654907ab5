package proot

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"proot-distro/internal/seccomp"
)

// x32Bit marks a call of the x32 ABI.
const x32Bit = 0x40000000

func TestFilterProgram(t *testing.T) {
	const refuse = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	names := refused([]string{"statx", "execveat", "openat2"})
	prog := filterProgram(names, givingAway)
	tests := []struct {
		name     string
		arch, nr uint32
		want     uint32
	}{
		{"x86_64 statx", unix.AUDIT_ARCH_X86_64, 332, refuse},
		{"x86_64 openat2", unix.AUDIT_ARCH_X86_64, 437, refuse},
		{"x86_64 openat", unix.AUDIT_ARCH_X86_64, 257, unix.SECCOMP_RET_ALLOW},
		{"x86_64 renameat2, which is translated", unix.AUDIT_ARCH_X86_64, 316, unix.SECCOMP_RET_ALLOW},
		{"x86_64 faccessat2, which is translated", unix.AUDIT_ARCH_X86_64, 439, unix.SECCOMP_RET_ALLOW},
		{"x86_64 call that proot annulled", unix.AUDIT_ARCH_X86_64, ^uint32(0), unix.SECCOMP_RET_ALLOW},
		{"x32 statx", unix.AUDIT_ARCH_X86_64, 332 | x32Bit, refuse},
		{"x32 execveat", unix.AUDIT_ARCH_X86_64, 545 | x32Bit, refuse},
		{"i386 statx", unix.AUDIT_ARCH_I386, 383, refuse},
		{"i386 call of statx's number on x86_64", unix.AUDIT_ARCH_I386, 332, unix.SECCOMP_RET_ALLOW},
		{"arm statx", unix.AUDIT_ARCH_ARM, 397, refuse},
		{"aarch64 statx", unix.AUDIT_ARCH_AARCH64, 291, refuse},
		{"aarch64 file_setattr", unix.AUDIT_ARCH_AARCH64, 469, refuse},
		{"riscv64 execveat", unix.AUDIT_ARCH_RISCV64, 281, refuse},
		{"riscv64 call 0", unix.AUDIT_ARCH_RISCV64, 0, unix.SECCOMP_RET_ALLOW},
		{"x86_64 chown", unix.AUDIT_ARCH_X86_64, 92, unix.SECCOMP_RET_ERRNO},
		{"arm fchownat", unix.AUDIT_ARCH_ARM, 325, unix.SECCOMP_RET_ERRNO},
		{"another machine's call", unix.AUDIT_ARCH_S390X, 437, unix.SECCOMP_RET_ALLOW},
	}
	for _, tt := range tests {
		if got := seccomp.Simulate(prog, tt.arch, tt.nr); got != tt.want {
			t.Errorf("%s: %#x, want %#x", tt.name, got, tt.want)
		}
	}
}

func TestRefused(t *testing.T) {
	if got := refused(nil); got != nil {
		t.Errorf("a proot that translates everything: %q refused", got)
	}
	for _, tt := range []struct {
		escaping []string
		in, out  []string
	}{
		{probedCalls, probedCalls, nil},
		{[]string{"openat2"}, []string{"openat2", "clone3", "io_uring_setup"}, []string{"statx", "faccessat2", "renameat2"}},
	} {
		got := refused(tt.escaping)
		for _, name := range tt.in {
			if !slices.Contains(got, name) {
				t.Errorf("escaping %q: %s is allowed", tt.escaping, name)
			}
		}
		for _, name := range tt.out {
			if slices.Contains(got, name) {
				t.Errorf("escaping %q: %s is refused", tt.escaping, name)
			}
		}
	}
	// riscv64 cannot rename without renameat2.
	if got := seccomp.Simulate(filterProgram(refused(probedCalls), nil), unix.AUDIT_ARCH_RISCV64, 276); got != unix.SECCOMP_RET_ALLOW {
		t.Errorf("riscv64 renameat2: %#x", got)
	}
}

func TestAtLeast(t *testing.T) {
	for release, want := range map[string]bool{
		"4.8.0": true, "4.7.10-x": false, "4.19-rc1": true, "5.0": true, "3.18.0": false, "": false, "linux": false,
	} {
		if got := atLeast(release, 4, 8); got != want {
			t.Errorf("atLeast(%q, 4, 8) = %v", release, got)
		}
	}
}
