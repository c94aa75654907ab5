package native

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proot-distro/internal/engine"
	"proot-distro/internal/platform"
)

const (
	emulator  = "/usr/bin/qemu-aarch64-static"
	hostTable = "a table of the host's" // of interpreters
)

// exit42 and sleep are programs for AArch64.
var (
	exit42 = []uint32{0xd2800540, 0xd2800ba8, 0xd4000001}                                     // mov x0, 42; mov x8, 93; svc 0
	sleep  = []uint32{0xd2800000, 0xd2800001, 0xd2800002, 0xd2800003, 0xd2800928, 0xd4000001} // ppoll(0, 0, 0, 0)
)

// foreign is an executable.
func foreign(t *testing.T, code []uint32) []byte {
	t.Helper()
	const base, start = 0x400000, 64 + 56
	header := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_AARCH64), Version: 1, Entry: base + start,
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1,
	}
	copy(header.Ident[:], []byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)})
	segment := elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: base, Paddr: base,
		Filesz: uint64(start + 4*len(code)), Memsz: uint64(start + 4*len(code)), Align: 0x1000}
	var b bytes.Buffer
	for _, part := range []any{header, segment, code} {
		must(t, binary.Write(&b, binary.LittleEndian, part))
	}
	return b.Bytes()
}

// TestEmulator runs a foreign program, by an entry of ours and by one of the host.
func TestEmulator(t *testing.T) {
	root := newRootfs(t)
	must(t, os.WriteFile(filepath.Join(root, "bin/foreign"), foreign(t, exit42), 0o755))
	s := newSpec(root, "/bin/foreign")
	s.Arch, s.Emulator = platform.AArch64, emulator
	if out, status := runSpec(t, s); status != 42 {
		t.Errorf("status %d: %s", status, out)
	}
	cmd := execCommand(t, execRequest{Spec: s, In: hostTable})
	cmd.SysProcAttr = ownNamespace()
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 42 {
		t.Errorf("with the host's entry: %v, %s", err, out)
	}
	s.Emulator = "/bin/busybox" // static as well, and none of the host's
	if hostStarts(s.Emulator, platform.AArch64) {
		t.Error("the host's entry is taken for one of busybox")
	}
	s = engine.Spec{Arch: platform.AArch64, Emulator: filepath.Join(root, "missing")}
	if _, err := checkEmulator(s); err == nil {
		t.Error("a missing emulator is taken")
	}
}

// TestEmulatorIsReadOnly has a guest change the emulator's file, which it finds by a process.
func TestEmulatorIsReadOnly(t *testing.T) {
	program, err := os.ReadFile(emulator)
	must(t, err)
	own := filepath.Join(t.TempDir(), "qemu")
	must(t, os.WriteFile(own, program, 0o755))
	link := own + ".link"
	must(t, os.Symlink(own, link))
	root := newRootfs(t)
	must(t, os.WriteFile(filepath.Join(root, "bin/foreign"), foreign(t, sleep), 0o755))
	for _, emulator := range []string{own, link} {
		s := script(root, `/bin/foreign &
		while readlink /proc/$!/exe | grep -q busybox; do :; done
		chmod 4777 /proc/$!/exe 2>/dev/null && echo changed
		kill -9 $!`)
		s.Arch, s.Emulator = platform.AArch64, emulator
		if out, status := runSpec(t, s); status != 0 || out != "" {
			t.Errorf("status %d: %s", status, out)
		}
		if info, err := os.Stat(own); err != nil || info.Mode() != 0o755 {
			t.Errorf("the host's file has mode %v, %v", info.Mode(), err)
		}
	}
}

func TestBinfmt(t *testing.T) {
	const aarch64 = "magic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n"
	const intro = "enabled\ninterpreter /usr/bin/a b\n"
	for _, tt := range []struct {
		name, text  string
		preopened   bool
		aarch64, mx bool // matches these architectures; mx is x86_64
	}{
		{"Debian's", intro + "flags: PF\noffset 0\n" + aarch64, true, true, false},
		{"without F", intro + "flags: POC\noffset 0\n" + aarch64, false, true, false},
		{"disabled", "disabled\ninterpreter /usr/bin/a b\nflags: F\noffset 0\n" + aarch64, false, false, false},
		{"by suffix", intro + "flags: F\nextension .jar\n", true, false, false},
		{"every ELF file", intro + "flags: F\noffset 0\nmagic 7f454c46\n", true, true, true},
		{"with an offset", intro + "flags: F\noffset 18\nmagic b700\n", true, true, false},
		{"behind the header", intro + "flags: F\noffset 200\nmagic b700\n", true, false, false},
		{"odd digits", intro + "flags: F\noffset 0\nmagic 7f4\n", false, false, false},
		{"a short mask", intro + "flags: F\noffset 0\nmagic 7f45\nmask ff\n", true, false, false},
		{"status", "enabled\n", false, false, false},
	} {
		e := parseBinfmt(tt.text)
		got := []bool{e.preopened, e.matches(header(platform.AArch64)), e.matches(header(platform.X86_64))}
		if diff := cmp.Diff([]bool{tt.preopened, tt.aarch64, tt.mx}, got); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
		if len(e.magic) > 0 && e.interpreter != "/usr/bin/a b" {
			t.Errorf("%s: interpreter %q", tt.name, e.interpreter)
		}
	}
}
