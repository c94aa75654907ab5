package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proot-distro/internal/host"
	"proot-distro/internal/platform"
)

func TestFindEmulator(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name       string
		cpu, guest platform.Arch
		override   string
		has        []string // in PATH
		want       string
		parts      []string
		termux     bool
	}{
		{name: "same", cpu: platform.X86_64, guest: platform.X86_64, has: []string{"qemu-x86_64"}},
		{name: "32 bits", cpu: platform.X86_64, guest: platform.I686, has: []string{"qemu-i386"}},
		{name: "static first", cpu: platform.X86_64, guest: platform.AArch64, has: []string{"qemu-aarch64", "qemu-aarch64-static"},
			want: "qemu-aarch64-static"},
		{name: "dynamic", cpu: platform.AArch64, guest: platform.I686, has: []string{"qemu-i386"}, want: "qemu-i386"},
		{name: "32 bits do not run 64", cpu: platform.I686, guest: platform.X86_64, has: []string{"qemu-x86_64"}, want: "qemu-x86_64"},
		{name: "none", cpu: platform.X86_64, guest: platform.RISCV64,
			parts: []string{"riscv64", "qemu-riscv64", "qemu-user", "--emulator"}},
		{name: "none on Termux", cpu: platform.AArch64, guest: platform.X86_64, termux: true,
			parts: []string{"pkg install qemu-user-x86-64"}},
		{name: "override", cpu: platform.X86_64, guest: platform.X86_64, override: "/bin/busybox", want: "/bin/busybox"},
		{name: "bad override", cpu: platform.X86_64, guest: platform.ARM, override: plain,
			parts: []string{"--emulator", plain, "not executable"}},
	}
	for _, tt := range tests {
		dir := t.TempDir()
		for _, name := range tt.has {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		t.Setenv("PATH", dir)
		got, err := FindEmulator(&host.Host{Arch: tt.cpu, Termux: tt.termux}, tt.guest, tt.override)
		for _, part := range tt.parts {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v, without %q", tt.name, err, part)
			}
		}
		if got = strings.TrimPrefix(got, dir+"/"); got != tt.want || (err == nil) != (tt.parts == nil) {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
}
