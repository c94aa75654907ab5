package tinyelf

import (
	"bytes"
	"debug/elf"
	"io"
	"testing"

	"proot-distro/internal/platform"
)

func TestExecutable(t *testing.T) {
	code := []byte("code")
	for _, arch := range platform.All() {
		file, err := elf.NewFile(bytes.NewReader(Executable(arch, code)))
		if err != nil {
			t.Fatalf("%s: %v", arch, err)
		}
		machine, class := arch.ELF()
		if file.Machine != machine || file.Class != class || file.Type != elf.ET_EXEC {
			t.Errorf("%s: %+v", arch, file.FileHeader)
		}
		if want := uint64(Base + Start(arch)); file.Entry != want {
			t.Errorf("%s begins at %#x, not at %#x", arch, file.Entry, want)
		}
		content, err := io.ReadAll(file.Progs[0].Open())
		if err != nil || !bytes.Equal(content[file.Entry-file.Progs[0].Vaddr:], code) {
			t.Errorf("%s: %q, %v at its entry", arch, content, err)
		}
	}
}
