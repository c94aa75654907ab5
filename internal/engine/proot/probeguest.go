package proot

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/internal/platform"
	"proot-distro/internal/seccomp"
	"proot-distro/internal/tinyelf"
)

// The probe's guest is one static program of a few hundred bytes, built here: a
// loop that makes the system calls of a table and writes each result to its
// standard output. It asks for files which exist in the guest only, so a call
// that does not find them went past proot to the host.

// probedCalls are the calls that the guest makes, in this order. The last ones
// change what they name.
var probedCalls = []string{"statx", "faccessat2", "openat2", "fchmodat2", "execveat", "renameat2"}

// emptyPathStat is made too: a stat by descriptor as glibc 2.33 and newer do it.
var emptyPathStat = map[platform.Arch]uint32{
	platform.X86_64: 262, platform.I686: 300, platform.ARM: 327, platform.AArch64: 79, platform.RISCV64: 79,
}

var abiOf = map[platform.Arch]seccomp.ABI{
	platform.X86_64: seccomp.X86_64, platform.I686: seccomp.I386, platform.ARM: seccomp.ARM,
	platform.AArch64: seccomp.AArch64, platform.RISCV64: seccomp.RISCV64,
}

const (
	guestTable   = 0x200 // offset of the table; its address is in the code below
	guestMarker  = "/pd-probe-marker"
	guestRenamed = "/pd-probe-renamed"
	guestProgram = "/pd-probe"
	atFDCWD      = ^uint64(99) // -100
)

// guestCode is, for every architecture: take a number and six arguments from the
// table at 0x400200; stop at number -1 with exit(0); make the system call; write
// the result, one word, to descriptor 1; go on with the next seven words.
var guestCode = map[platform.Arch]string{
	platform.X86_64: "bb00024000488b034883f8ff7436488b7b08488b7310488b53184c8b53204c8b43284c8b4b300f0550b801000000" +
		"bf010000004889e6ba080000000f05584883c338ebc1b83c00000031ff0f05",
	platform.I686: "b800024000508b58048b48088b500c8b70108b78148b68188b0083f8ff741dcd8050b804000000bb0100000089e1" +
		"ba04000000cd80585883c01cebc9b80100000031dbcd80",
	platform.ARM: "0185a0e3028c88e2007098e5010077e30f00000a040098e5081098e50c2098e5103098e5144098e5185098e5" +
		"000000ef04002de50470a0e30100a0e30d10a0e10420a0e3000000ef04009de41c8088e2ecffffea0170a0e30000a0e3000000ef",
	platform.AArch64: "1308a0d273020891680240f91f0500b1c0010054608640a9628e41a9649642a9010000d4e00f1ff8080880d2" +
		"200080d2e1030091020180d2010000d4ff43009173e20091f1ffff17a80b80d2000080d2010000d4",
	platform.RISCV64: "b70440009384042083b804009302f0ff6384580403b5840083b5040103b6840183b6040203b7840283b70403" +
		"73000000130101ff2330a100930800041305100093050100130680007300000013010101938484036ff05ffb9308d0051305000073000000",
}

// guestTableOf lists the calls: number, then six arguments. str gives a string's address.
func guestTableOf(a platform.Arch, str func(string) uint64) [][7]uint64 {
	nr := func(name string) uint64 {
		if name == "renameat2" && a == platform.RISCV64 {
			return 276
		}
		return uint64(newCalls[name][abiOf[a]])
	}
	marker := str(guestMarker)
	openHow := str("\x00\x00\x20\x00" + string(make([]byte, 20))) // struct open_how: O_PATH, no mode, no resolve
	return [][7]uint64{
		{nr("statx"), atFDCWD, marker, 0, unix.STATX_TYPE, 0},
		{nr("faccessat2"), atFDCWD, marker, unix.F_OK, unix.AT_EACCESS},
		{nr("openat2"), atFDCWD, marker, openHow, 24},
		{nr("fchmodat2"), atFDCWD, marker, 0o600, 0},
		{nr("execveat"), atFDCWD, marker, 0, 0, 0},
		{nr("renameat2"), atFDCWD, marker, atFDCWD, str(guestRenamed), unix.RENAME_NOREPLACE},
		{uint64(emptyPathStat[a]), atFDCWD, str(""), 0, unix.AT_EMPTY_PATH},
	}
}

// guestELF builds the program.
func guestELF(a platform.Arch) []byte { return callingELF(a, guestTableOf) }

// callingELF builds a program that makes the calls of a table.
func callingELF(a platform.Arch, tableOf func(platform.Arch, func(string) uint64) [][7]uint64) []byte {
	code, err := hex.DecodeString(guestCode[a])
	if err != nil {
		panic(err) // a constant
	}
	word := wordOf(a)
	rows := len(tableOf(a, func(string) uint64 { return 0 })) + 1
	var table, texts bytes.Buffer
	put := func(v uint64) {
		table.Write(binary.LittleEndian.AppendUint64(nil, v)[:word])
	}
	calls := tableOf(a, func(s string) uint64 {
		at := tinyelf.Base + guestTable + rows*7*word + texts.Len()
		texts.WriteString(s)
		for texts.WriteByte(0); texts.Len()%8 != 0; {
			texts.WriteByte(0)
		}
		return uint64(at)
	})
	for _, call := range append(calls, [7]uint64{^uint64(0)}) {
		for _, v := range call {
			put(v)
		}
	}
	code = append(code, make([]byte, guestTable-tinyelf.Start(a)-len(code))...)
	return tinyelf.Executable(a, append(append(code, table.Bytes()...), texts.Bytes()...))
}

// wordOf is the size of a register, in bytes.
func wordOf(a platform.Arch) int {
	if _, class := a.ELF(); class == elf.ELFCLASS32 {
		return 4
	}
	return 8
}

// observe runs the guest under proot, in every architecture that cpu runs: proot
// has a table of system calls for each. Where that is impossible the worst is
// assumed, since refusing a call does no harm.
func observe(bin string, cpu platform.Arch, scratch []string) (escaping []string, kernelRelease bool) {
	dir, err := scratchDir(scratch)
	if err != nil {
		return probedCalls, false
	}
	defer os.RemoveAll(dir)
	ran := false
	for _, a := range platform.All() {
		if !cpu.Runs(a) {
			continue
		}
		results := runGuest(bin, a, dir)
		if results == nil {
			continue // a kernel without the 32-bit ABI
		}
		ran = true
		for i, name := range probedCalls {
			if unix.Errno(-results[i]) == unix.ENOENT && !slices.Contains(escaping, name) {
				escaping = append(escaping, name)
			}
		}
	}
	if !ran {
		return probedCalls, false
	}
	results := runGuest(bin, cpu, dir, "--kernel-release=6.1.0")
	return escaping, results != nil && unix.Errno(-results[len(probedCalls)]) != unix.EINVAL
}

// runGuest runs the guest once, with dir as its root, and gives what its calls returned.
func runGuest(bin string, a platform.Arch, dir string, options ...string) []int64 {
	if os.WriteFile(filepath.Join(dir, guestProgram), guestELF(a), 0o755) != nil ||
		os.WriteFile(filepath.Join(dir, guestMarker), nil, 0o644) != nil {
		return nil
	}
	defer os.Remove(filepath.Join(dir, guestProgram))
	defer os.Remove(filepath.Join(dir, guestRenamed))
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, append(options, "--rootfs="+dir, "--cwd=/", guestProgram)...)
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second
	out, _ := cmd.Output() // judged by what it wrote
	return guestResults(a, out)
}

// guestResults reads what the guest wrote: nil unless it is complete.
func guestResults(a platform.Arch, out []byte) []int64 {
	word := wordOf(a)
	if len(out) != word*(len(probedCalls)+1) {
		return nil
	}
	var results []int64
	for ; len(out) > 0; out = out[word:] {
		if word == 8 {
			results = append(results, int64(binary.LittleEndian.Uint64(out)))
		} else {
			results = append(results, int64(int32(binary.LittleEndian.Uint32(out))))
		}
	}
	return results
}
