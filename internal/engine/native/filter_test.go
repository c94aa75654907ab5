package native

import (
	"testing"

	"golang.org/x/sys/unix"

	"proot-distro/internal/seccomp"
)

// TestFilter tries each table, most of which this machine does not have.
func TestFilter(t *testing.T) {
	const (
		allow   = unix.SECCOMP_RET_ALLOW
		success = unix.SECCOMP_RET_ERRNO
		notify  = unix.SECCOMP_RET_USER_NOTIF
		refused = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)

		x86, i386, arm, arm64, riscv = unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_ARM,
			unix.AUDIT_ARCH_AARCH64, unix.AUDIT_ARCH_RISCV64
	)
	root := emulation{fakeRoot: true, devices: true}
	other := emulation{}
	asking := emulation{uname: true, bind: true}
	noting := emulation{fakeRoot: true, devices: true, owners: true}
	tests := []struct {
		name     string
		filter   emulation
		arch, nr uint32
		args     []uint64
		want     uint32
	}{
		{"typing into the terminal", other, x86, 16, []uint64{0, ioctlTIOCSTI}, refused},
		{"typing, with bits that the kernel ignores", other, x86, 16, []uint64{0, ioctlTIOCSTI | 1<<32}, refused},
		{"typing on arm", root, arm, 54, []uint64{0, ioctlTIOCSTI}, refused},
		{"the console's ioctl", other, riscv, 29, []uint64{0, ioctlTIOCLINUX}, refused},
		{"another ioctl", root, x86, 16, []uint64{0, unix.TCGETS}, allow},
		{"x32", other, x86, 0x40000000 | 514, []uint64{0, ioctlTIOCSTI}, unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{"chown as root", root, x86, 92, nil, success},
		{"chown as another user", other, x86, 92, nil, allow},
		{"fchownat", root, arm64, 54, nil, success},
		{"chown32", root, i386, 212, nil, success},
		{"chown noted", noting, x86, 92, nil, notify},
		{"lchown noted", noting, arm, 16, nil, notify},
		{"fchown noted", noting, riscv, 55, nil, notify},
		{"fchownat noted", noting, i386, 298, nil, notify},
		{"setuid not noted", noting, x86, 105, nil, success},
		{"setgroups32", root, arm, 206, nil, success},
		{"setresuid", root, riscv, 147, nil, success},
		{"capset", root, i386, 185, nil, success},
		{"a device", root, x86, 133, []uint64{0, unix.S_IFCHR | 0o666}, success},
		{"a device by mknodat", root, arm64, 33, []uint64{0, 0, unix.S_IFBLK | 0o600}, success},
		{"a FIFO", root, x86, 133, []uint64{0, unix.S_IFIFO | 0o666}, allow},
		{"a device of another user", other, x86, 133, []uint64{0, unix.S_IFCHR}, allow},
		{"uname", asking, arm64, 160, nil, notify},
		{"uname left alone", root, arm64, 160, nil, allow},
		{"bind", asking, i386, 361, nil, notify},
		{"bind by socketcall", asking, i386, 102, []uint64{2}, notify},
		{"connect by socketcall", asking, i386, 102, []uint64{3}, allow},
	}
	for _, tt := range tests {
		if got := seccomp.Simulate(tt.filter.filter(), tt.arch, tt.nr, tt.args...); got != tt.want {
			t.Errorf("%s: %#x, want %#x", tt.name, got, tt.want)
		}
	}
}
