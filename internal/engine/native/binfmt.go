package native

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"proot-distro/internal/platform"
)

// hostStarts reports whether the host's kernel starts the programs of an architecture
// through this emulator, in whatever root directory: all entries that match do, and
// have flag F.
func hostStarts(emulator string, arch platform.Arch) bool {
	files, _ := filepath.Glob("/" + binfmtDir + "/*") // the pattern is sound
	found := false
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // register can only be written
		}
		e := parseBinfmt(string(data))
		if !e.matches(header(arch)) {
			continue
		}
		if !e.preopened || !sameFile(e.interpreter, emulator) {
			return false
		}
		found = true
	}
	return found
}

// A binfmt is an entry of the kernel's table.
type binfmt struct {
	interpreter string
	preopened   bool // flag F
	offset      int
	magic, mask []byte
}

// parseBinfmt reads what the kernel shows of an entry; nothing matches one that is
// disabled, or that goes by the names of files.
func parseBinfmt(text string) (e binfmt) {
	if !strings.HasPrefix(text, "enabled\ninterpreter ") {
		return binfmt{}
	}
	var err error
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch key {
		case "interpreter":
			e.interpreter = value
		case "flags:":
			e.preopened = strings.Contains(value, "F")
		case "offset":
			e.offset, err = strconv.Atoi(value)
		case "magic":
			e.magic, err = hex.DecodeString(value)
		case "mask":
			e.mask, err = hex.DecodeString(value)
		}
		if err != nil {
			return binfmt{}
		}
	}
	return e
}

// matches does what the kernel does with the beginning of a file.
func (e binfmt) matches(start []byte) bool {
	if len(e.magic) == 0 || e.offset < 0 || e.offset+len(e.magic) > len(start) || e.mask != nil && len(e.mask) != len(e.magic) {
		return false
	}
	for i, want := range e.magic {
		mask := byte(0xff)
		if e.mask != nil {
			mask = e.mask[i]
		}
		if (start[e.offset+i]^want)&mask != 0 {
			return false
		}
	}
	return true
}

func sameFile(a, b string) bool {
	first, err1 := os.Stat(a)
	second, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(first, second)
}
