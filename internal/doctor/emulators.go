package doctor

import (
	"debug/elf"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"regexp"

	"proot-distro/internal/engine"
	"proot-distro/internal/engine/native"
	"proot-distro/internal/host"
	"proot-distro/internal/platform"
	"proot-distro/internal/tinyelf"
)

// emulatorFacts are how a program of one architecture fared.
type emulatorFacts struct {
	Arch platform.Arch `json:"-"`
	// Emulator is empty where this CPU runs the programs itself.
	Emulator string `json:"emulator,omitempty"`
	Version  string `json:"version,omitempty"`
	// Static emulators need nothing of the host, as the native engine wants it.
	Static bool `json:"static,omitempty"`
	// Native and Proot say whether the engine runs such containers, if it works itself.
	Native bool `json:"native"`
	Proot  bool `json:"proot"`

	missing bool  // no emulator was found
	err     error // why a program did not run
	native  error // why the native engine cannot use the emulator
}

// lookAtEmulators runs a program of each architecture. The error is that no program can be
// run from anywhere.
func lookAtEmulators(h *host.Host, n *nativeFacts) (all []emulatorFacts, err error) {
	dir, err := scratchDir(h)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	for _, arch := range platform.All() {
		f := emulatorFacts{Arch: arch}
		f.Emulator, f.err = engine.FindEmulator(h, arch, "")
		if f.missing = f.err != nil; !f.missing {
			f.try(dir, n != nil && n.err == nil)
		}
		all = append(all, f)
	}
	return all, nil
}

// scratchDir makes a directory from which programs can be run, if there is one.
func scratchDir(h *host.Host) (dir string, err error) {
	places := []string{"", h.Dirs.Runtime, h.Dirs.Cache, h.Home}
	if h.Termux {
		places[0] = filepath.Join(h.Prefix, "tmp")
	}
	for _, place := range places {
		if dir, err = os.MkdirTemp(place, "pd-doctor-"); err != nil {
			continue
		}
		if err = runTiny(dir, "", h.Arch); err == nil {
			return dir, nil
		}
		_ = os.Remove(dir) // it is empty
	}
	return "", err
}

// try runs a program in dir.
func (f *emulatorFacts) try(dir string, withNative bool) {
	if f.err = runTiny(dir, f.Emulator, f.Arch); f.err != nil {
		return
	}
	f.Native, f.Proot = withNative, true
	if f.Emulator == "" {
		return
	}
	out, _ := runTrial(f.Emulator, "--version") // blink and box64 answer in other ways
	if m := regexp.MustCompile(`version (\d+(?:\.\d+)+)`).FindStringSubmatch(out); m != nil {
		f.Version = m[1]
	}
	f.Static = isStatic(f.Emulator)
	if withNative {
		f.native = native.TryEmulator(f.Arch, f.Emulator)
		f.Native = f.native == nil
	}
}

func isStatic(program string) bool {
	file, err := elf.Open(program)
	if err != nil {
		return false
	}
	defer file.Close()
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP {
			return false
		}
	}
	return true
}

// runTiny runs the smallest program of an architecture in dir, by an emulator if there is one.
func runTiny(dir, emulator string, arch platform.Arch) error {
	program := filepath.Join(dir, "try-"+string(arch))
	if err := os.WriteFile(program, tinyProgram(arch), 0o700); err != nil {
		return err
	}
	defer os.Remove(program)
	command := []string{program}
	if emulator != "" {
		command = []string{emulator, program}
	}
	_, err := runTrial(command[0], command[1:]...)
	if path := new(os.PathError); errors.As(err, &path) {
		err = path.Err
	}
	return err
}

// exitCode is exit_group(0) or exit(0) in machine code.
var exitCode = map[platform.Arch]string{
	platform.X86_64:  "b83c00000031ff0f05",
	platform.I686:    "b80100000031dbcd80",
	platform.ARM:     "0170a0e30000a0e3000000ef",
	platform.AArch64: "a80b80d2000080d2010000d4",
	platform.RISCV64: "9308d0051305000073000000",
}

// tinyProgram ends at once.
func tinyProgram(arch platform.Arch) []byte {
	code, err := hex.DecodeString(exitCode[arch])
	if err != nil {
		panic(err) // a constant
	}
	return tinyelf.Executable(arch, code)
}
