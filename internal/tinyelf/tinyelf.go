// Package tinyelf makes programs of a few bytes of machine code: static executables of one
// segment, for trials and for what must not be a file of this machine.
package tinyelf

import (
	"bytes"
	"debug/elf"
	"encoding/binary"

	"proot-distro/internal/platform"
)

// Base is the address of the first byte of the file, which is read-only and executable in memory.
const Base = 0x400000

const (
	eabi5    = 0x05000000 // what ARM calls its calling conventions; others take any flags
	pageSize = 0x10000    // the largest that there is
)

// Start is where the code begins in the file.
func Start(a platform.Arch) int {
	if _, class := a.ELF(); class == elf.ELFCLASS32 {
		return 52 + 2*32
	}
	return 64 + 2*56
}

// Executable is a program that consists of code, and begins with its first byte.
func Executable(a platform.Arch, code []byte) []byte {
	machine, class := a.ELF()
	ident := [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(class), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)}
	const version = uint32(elf.EV_CURRENT)
	const text, stack = uint32(elf.PF_R | elf.PF_X), uint32(elf.PF_R | elf.PF_W)
	start := Start(a)
	size := uint64(start + len(code))
	var headers []any
	if class == elf.ELFCLASS64 {
		headers = []any{
			elf.Header64{
				Ident: ident, Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: version,
				Entry: uint64(Base + start), Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 2,
			},
			elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: text, Vaddr: Base, Paddr: Base, Filesz: size, Memsz: size, Align: pageSize},
			elf.Prog64{Type: uint32(elf.PT_GNU_STACK), Flags: stack},
		}
	} else {
		headers = []any{
			elf.Header32{
				Ident: ident, Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: version,
				Entry: uint32(Base + start), Phoff: 52, Flags: eabi5, Ehsize: 52, Phentsize: 32, Phnum: 2,
			},
			elf.Prog32{
				Type: uint32(elf.PT_LOAD), Flags: text, Vaddr: Base, Paddr: Base, Filesz: uint32(size), Memsz: uint32(size), Align: pageSize,
			},
			elf.Prog32{Type: uint32(elf.PT_GNU_STACK), Flags: stack},
		}
	}
	var file bytes.Buffer
	for _, h := range headers {
		_ = binary.Write(&file, binary.LittleEndian, h) // memory takes all
	}
	file.Write(code)
	return file.Bytes()
}
