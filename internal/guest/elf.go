package guest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"

	"proot-distro/internal/platform"
)

// Limits on what an ELF file may make us read.
const (
	maxProgramHeaders = 512
	maxInterpreter    = 4096 // PATH_MAX
)

// elfProgram is what matters of an ELF executable (elf(5)).
type elfProgram struct {
	arch   platform.Arch // empty for a machine that containers cannot have
	interp string        // PT_INTERP, empty for a static program
}

var (
	errNotELF = errors.New("not an ELF file")
	errBadELF = errors.New("damaged ELF file")
)

// readELF reads the header and PT_INTERP. It reads at most 64 bytes, 512 program
// headers and one path, whatever the file claims. errNotELF means that the
// magic number is missing.
func readELF(r io.ReaderAt) (elfProgram, error) {
	var ident [elf.EI_NIDENT]byte
	if n, err := r.ReadAt(ident[:], 0); n < len(elf.ELFMAG) || string(ident[:4]) != elf.ELFMAG {
		if err != nil && !errors.Is(err, io.EOF) {
			return elfProgram{}, err
		}
		return elfProgram{}, errNotELF
	}
	class := elf.Class(ident[elf.EI_CLASS])
	if elf.Data(ident[elf.EI_DATA]) != elf.ELFDATA2LSB {
		return elfProgram{}, nil // every architecture of ours is little-endian
	}
	h, err := readHeader(r, class)
	if err != nil {
		return elfProgram{}, err
	}
	if t := elf.Type(h.Type); t != elf.ET_EXEC && t != elf.ET_DYN {
		return elfProgram{}, errBadELF
	}
	p := elfProgram{}
	p.arch, _ = platform.FromELF(elf.Machine(h.Machine), class)
	p.interp, err = readInterp(r, h, class)
	return p, err
}

// readHeader returns the file header, a 32-bit one in the form of a 64-bit one.
func readHeader(r io.ReaderAt, class elf.Class) (elf.Header64, error) {
	switch class {
	case elf.ELFCLASS64:
		var h elf.Header64
		err := readStruct(r, 0, &h)
		return h, err
	case elf.ELFCLASS32:
		var h elf.Header32
		err := readStruct(r, 0, &h)
		return elf.Header64{
			Type: h.Type, Machine: h.Machine,
			Phoff: uint64(h.Phoff), Phentsize: h.Phentsize, Phnum: h.Phnum,
		}, err
	}
	return elf.Header64{}, errBadELF
}

func readInterp(r io.ReaderAt, h elf.Header64, class elf.Class) (string, error) {
	size := binary.Size(elf.Prog64{})
	if class == elf.ELFCLASS32 {
		size = binary.Size(elf.Prog32{})
	}
	if h.Phnum == 0 || h.Phnum > maxProgramHeaders || int(h.Phentsize) != size || h.Phoff > 1<<62 {
		return "", errBadELF
	}
	for i := range int64(h.Phnum) {
		ph, err := readProg(r, int64(h.Phoff)+i*int64(size), class)
		if err != nil {
			return "", err
		}
		if elf.ProgType(ph.Type) != elf.PT_INTERP {
			continue
		}
		if ph.Filesz < 2 || ph.Filesz > maxInterpreter || ph.Off > 1<<62 {
			return "", errBadELF
		}
		name := make([]byte, ph.Filesz)
		if _, err := r.ReadAt(name, int64(ph.Off)); err != nil {
			return "", errBadELF
		}
		name, _, _ = bytes.Cut(name, []byte{0})
		if len(name) == 0 {
			return "", errBadELF
		}
		return string(name), nil
	}
	return "", nil
}

func readProg(r io.ReaderAt, at int64, class elf.Class) (elf.Prog64, error) {
	if class == elf.ELFCLASS64 {
		var ph elf.Prog64
		err := readStruct(r, at, &ph)
		return ph, err
	}
	var ph elf.Prog32
	err := readStruct(r, at, &ph)
	return elf.Prog64{Type: ph.Type, Off: uint64(ph.Off), Filesz: uint64(ph.Filesz)}, err
}

func readStruct(r io.ReaderAt, at int64, v any) error {
	if err := binary.Read(io.NewSectionReader(r, at, int64(binary.Size(v))), binary.LittleEndian, v); err != nil {
		return errBadELF
	}
	return nil
}
