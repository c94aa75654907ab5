package platform

import (
	"debug/elf"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for want, spellings := range map[Arch][]string{
		AArch64: {"aarch64", "arm64", "linux/arm64", "linux/arm64/v8", "arm64/v8", "ARM64", " arm64 ", "linux/aarch64"},
		ARM:     {"arm", "armv7l", "armv8l", "linux/arm", "linux/arm/v7", "arm/v7", "linux/arm/v6", "armhf"},
		I686:    {"i686", "386", "linux/386", "i386", "i586", "x86"},
		RISCV64: {"riscv64", "linux/riscv64"},
		X86_64:  {"x86_64", "amd64", "AMD64", "linux/amd64", "x86-64", "Linux/AMD64"},
	} {
		for _, s := range spellings {
			if got, err := Parse(s); err != nil || got != want {
				t.Errorf("Parse(%q) is %q, %v", s, got, err)
			}
		}
	}
	for _, s := range []string{"", "linux/", "linux", "s390x", "windows/amd64", "arm64 amd64", "linux/linux/arm64", "mips64le", "arm/v5"} {
		if got, err := Parse(s); err == nil {
			t.Errorf("Parse(%q) is %q", s, got)
		}
	}
}

// Every spelling that a user, a registry, a kernel or a package manager may come up with.
func TestSpellings(t *testing.T) {
	type row struct {
		Docker, OCI, Variant, Uname, Qemu, Package string
		Machine                                    elf.Machine
		Class                                      elf.Class
	}
	want := map[Arch]row{
		AArch64: {"linux/arm64", "arm64", "", "aarch64", "qemu-aarch64", "qemu-user-aarch64", 183, elf.ELFCLASS64},
		ARM:     {"linux/arm/v7", "arm", "v7", "armv7l", "qemu-arm", "qemu-user-arm", 40, elf.ELFCLASS32},
		I686:    {"linux/386", "386", "", "i686", "qemu-i386", "qemu-user-i386", 3, elf.ELFCLASS32},
		RISCV64: {"linux/riscv64", "riscv64", "", "riscv64", "qemu-riscv64", "qemu-user-riscv64", 243, elf.ELFCLASS64},
		X86_64:  {"linux/amd64", "amd64", "", "x86_64", "qemu-x86_64", "qemu-user-x86-64", 62, elf.ELFCLASS64},
	}
	if len(All()) != len(want) || !slices.IsSorted(All()) {
		t.Errorf("All: %v", All())
	}
	for _, a := range All() {
		w := want[a]
		got := row{Docker: a.Docker(), Uname: a.Uname(), Qemu: a.Qemu(), Package: a.QemuPackage(), Machine: w.Machine, Class: w.Class}
		got.OCI, got.Variant = a.OCI()
		if diff := cmp.Diff(w, got); diff != "" {
			t.Errorf("%s: %s", a, diff)
		}
		if back, ok := FromELF(w.Machine, w.Class); !ok || back != a {
			t.Errorf("FromELF(%v, %v) is %q", w.Machine, w.Class, back)
		}
		if back, ok := FromOCI(w.OCI, w.Variant); !ok || back != a {
			t.Errorf("FromOCI(%q, %q) is %q", w.OCI, w.Variant, back)
		}
		for _, s := range []string{string(a), w.Docker, w.OCI, w.Uname} {
			if back, err := Parse(s); err != nil || back != a {
				t.Errorf("Parse(%q) is %q, %v", s, back, err)
			}
		}
	}
}

func TestForeign(t *testing.T) {
	for _, p := range [][2]string{{"s390x", ""}, {"arm", "v5"}, {"ppc64le", ""}, {"", ""}, {"unknown", ""}} {
		if a, ok := FromOCI(p[0], p[1]); ok {
			t.Errorf("FromOCI%q is %q", p, a)
		}
	}
	for _, variant := range []string{"", "v6", "v7", "v8"} {
		if a, ok := FromOCI("arm", variant); !ok || a != ARM {
			t.Errorf("arm %s is %q", variant, a)
		}
	}
	if a, ok := FromELF(elf.EM_X86_64, elf.ELFCLASS32); ok {
		t.Errorf("x32 is %q", a)
	}
	if a, err := Parse("s390x"); err == nil {
		t.Errorf("s390x is %q", a)
	}
}

func TestRuns(t *testing.T) {
	runs := map[[2]Arch]bool{{X86_64, I686}: true, {AArch64, ARM}: true}
	for _, host := range All() {
		for _, guest := range All() {
			want := host == guest || runs[[2]Arch{host, guest}]
			if got := host.Runs(guest); got != want {
				t.Errorf("%s runs %s: %v", host, guest, got)
			}
		}
	}
	if !slices.Contains(All(), Binary()) {
		t.Errorf("this binary's architecture is %q", Binary())
	}
}
