// Package platform is the table of CPU architectures that containers run on.
//
// Five names exist, spelled as `uname -m` and the Python program spell them;
// every other spelling (Docker's, Debian's, GOARCH) is accepted by [Parse] and
// produced by a method of [Arch]. The package holds data only.
package platform

import (
	"debug/elf"
	"fmt"
	"runtime"
	"slices"
	"strings"
)

// Arch is one architecture under the name stored in manifest.json.
type Arch string

// The architectures that containers can have.
const (
	AArch64 Arch = "aarch64"
	ARM     Arch = "arm"
	I686    Arch = "i686"
	RISCV64 Arch = "riscv64"
	X86_64  Arch = "x86_64"
)

type row struct {
	docker  string // OCI architecture
	variant string // OCI variant, empty where there is none
	uname   string // uname -m of a guest
	machine elf.Machine
	class   elf.Class
	qemu    string   // suffix of qemu-<suffix>
	pkg     string   // suffix of Termux's and newer Debian's qemu-user-<suffix>
	aliases []string // further spellings, lower case
}

var table = map[Arch]row{
	AArch64: {"arm64", "", "aarch64", elf.EM_AARCH64, elf.ELFCLASS64, "aarch64", "aarch64", []string{"arm64/v8", "armv8", "arm64v8"}},
	ARM:     {"arm", "v7", "armv7l", elf.EM_ARM, elf.ELFCLASS32, "arm", "arm", []string{"armhf", "armv7", "armv8l", "arm/v6", "arm/v8", "armv7a", "arm32v7"}},
	I686:    {"386", "", "i686", elf.EM_386, elf.ELFCLASS32, "i386", "i386", []string{"i386", "i486", "i586", "x86"}},
	RISCV64: {"riscv64", "", "riscv64", elf.EM_RISCV, elf.ELFCLASS64, "riscv64", "riscv64", nil},
	X86_64:  {"amd64", "", "x86_64", elf.EM_X86_64, elf.ELFCLASS64, "x86_64", "x86-64", []string{"x86-64", "amd64/v1"}},
}

// All returns the architectures in alphabetical order.
func All() []Arch { return []Arch{AArch64, ARM, I686, RISCV64, X86_64} }

// Parse reads an architecture in any spelling: aarch64, arm64, linux/arm64,
// linux/arm/v7, armhf, i386, AMD64, …
func Parse(s string) (Arch, error) {
	name := strings.TrimPrefix(strings.ToLower(strings.TrimSpace(s)), "linux/")
	for _, a := range All() {
		r := table[a]
		if name == string(a) || name == r.docker || name == r.uname ||
			r.variant != "" && name == r.docker+"/"+r.variant || slices.Contains(r.aliases, name) {
			return a, nil
		}
	}
	return "", fmt.Errorf("unknown architecture %q (known: aarch64, arm, i686, riscv64, x86_64, or Docker's linux/arm64 and so on)", s)
}

// FromOCI maps an image config's architecture and variant; ok is false for
// an architecture that containers cannot have (s390x, arm v5, …).
func FromOCI(architecture, variant string) (arch Arch, ok bool) {
	if architecture == "arm" && variant == "v5" {
		return "", false
	}
	for _, a := range All() {
		if table[a].docker == architecture {
			return a, true
		}
	}
	return "", false
}

// FromELF maps the e_machine and class of an ELF header.
func FromELF(m elf.Machine, c elf.Class) (arch Arch, ok bool) {
	for _, a := range All() {
		if table[a].machine == m && table[a].class == c {
			return a, true
		}
	}
	return "", false
}

// ELF gives the e_machine and class of ELF headers, the reverse of [FromELF].
func (a Arch) ELF() (elf.Machine, elf.Class) { return table[a].machine, table[a].class }

// Binary is the architecture that this program was built for.
func Binary() Arch {
	a, _ := Parse(runtime.GOARCH)
	return a
}

// OCI returns the architecture and variant of an OCI platform.
func (a Arch) OCI() (architecture, variant string) { return table[a].docker, table[a].variant }

// Docker returns the spelling of `docker --platform`: linux/arm/v7.
func (a Arch) Docker() string {
	r := table[a]
	if r.variant == "" {
		return "linux/" + r.docker
	}
	return "linux/" + r.docker + "/" + r.variant
}

// Uname is what `uname -m` prints in a guest of this architecture.
func (a Arch) Uname() string { return table[a].uname }

// Qemu is the name of the user-mode emulator: qemu-aarch64.
func (a Arch) Qemu() string { return "qemu-" + table[a].qemu }

// QemuPackage is the package that ships [Arch.Qemu] on Termux; on Debian
// every emulator is in qemu-user.
func (a Arch) QemuPackage() string { return "qemu-user-" + table[a].pkg }

// Runs reports whether a CPU of architecture a runs programs of guest
// without an emulator. For 32-bit ARM on aarch64 the caller must also ask the
// CPU, since some 64-bit cores lack the 32-bit instruction set.
func (a Arch) Runs(guest Arch) bool {
	return a == guest || a == X86_64 && guest == I686 || a == AArch64 && guest == ARM
}
