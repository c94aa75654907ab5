package guest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"

	"proot-distro/internal/platform"
)

// elfFile makes a program with one PT_INTERP, or without when interp is empty.
func elfFile(machine elf.Machine, class elf.Class, interp string) []byte {
	var b bytes.Buffer
	ident := [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(class), byte(elf.ELFDATA2LSB), 1}
	progType := elf.PT_INTERP
	if interp == "" {
		progType = elf.PT_LOAD
	}
	size := uint64(len(interp)) + 1
	if class == elf.ELFCLASS64 {
		put(&b, elf.Header64{Ident: ident, Type: uint16(elf.ET_DYN), Machine: uint16(machine), Phoff: 64, Phentsize: 56, Phnum: 1})
		put(&b, elf.Prog64{Type: uint32(progType), Off: 120, Filesz: size})
	} else {
		put(&b, elf.Header32{Ident: ident, Type: uint16(elf.ET_DYN), Machine: uint16(machine), Phoff: 52, Phentsize: 32, Phnum: 1})
		put(&b, elf.Prog32{Type: uint32(progType), Off: 84, Filesz: uint32(size)})
	}
	b.WriteString(interp + "\x00")
	return b.Bytes()
}

func put(b *bytes.Buffer, v any) {
	if err := binary.Write(b, binary.LittleEndian, v); err != nil {
		panic(err)
	}
}

var (
	amd64  = elfFile(elf.EM_X86_64, elf.ELFCLASS64, "")
	arm64  = elfFile(elf.EM_AARCH64, elf.ELFCLASS64, "")
	i386   = elfFile(elf.EM_386, elf.ELFCLASS32, "")
	s390x  = elfFile(elf.EM_S390, elf.ELFCLASS64, "")
	dyn64  = elfFile(elf.EM_X86_64, elf.ELFCLASS64, "/lib64/ld.so")
	dyn386 = elfFile(elf.EM_386, elf.ELFCLASS32, "/lib/ld.so")
)

func TestDetectArch(t *testing.T) {
	hints := ArchHints{Host: platform.RISCV64}
	full := ArchHints{Prefix: "/data/usr", Manifest: platform.ARM, Entrypoint: []string{"rel", "/app"}, Host: platform.RISCV64}
	for _, tc := range []struct {
		name  string
		tree  tree
		hints ArchHints
		want  platform.Arch
	}{
		{"first shell wins", tree{"usr/bin/bash": arm64, "bin/sh": amd64}, hints, platform.AArch64},
		{"absolute links", tree{"bin": link("/usr/bin"), "usr/bin/sh": link("/opt/dash"), "opt/dash": i386}, hints, platform.I686},
		{"script is skipped", tree{"usr/bin/bash": "#!/bin/sh\n", "bin/busybox": arm64}, hints, platform.AArch64},
		{"unknown machine is skipped", tree{"bin/sh": s390x}, full, platform.ARM},
		{"FIFO is skipped", tree{"bin/bash": fifo, "bin/sh": amd64}, hints, platform.X86_64},
		{"loop", tree{"bin/sh": link("sh")}, hints, platform.RISCV64},
		{"link to the host's shell", tree{"bin/sh": link("../../../../../../../bin/true")}, hints, platform.RISCV64},
		{"prefix", tree{"data/usr/bin/bash": arm64, "bin/sh": amd64}, full, platform.AArch64},
		{"manifest before entrypoint", tree{"app": amd64}, full, platform.ARM},
		{"entrypoint", tree{"app": amd64}, ArchHints{Entrypoint: full.Entrypoint, Host: platform.ARM}, platform.X86_64},
		{"manifest is nonsense", tree{"app": amd64}, ArchHints{Manifest: "z80", Host: platform.ARM}, platform.ARM},
		{"nothing", tree{}, hints, platform.RISCV64},
		{"truncated", tree{"bin/sh": amd64[:40]}, hints, platform.RISCV64},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := DetectArch(tc.tree.open(t), tc.hints); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func onX86(a platform.Arch) bool { return platform.X86_64.Runs(a) }

func TestInspect(t *testing.T) {
	for _, tc := range []struct {
		name   string
		tree   tree
		status int
		cause  string // a part of it
	}{
		{"static", tree{"p": amd64}, 0, ""},
		{"32 bits", tree{"p": dyn386, "lib/ld.so": i386}, 0, ""},
		{"dynamic", tree{"p": dyn64, "lib64": link("/usr/lib"), "usr/lib/ld.so": amd64}, 0, ""},
		{"script", tree{"p": "#! /bin/sh -e\n", "bin/sh": amd64}, 0, ""},
		{"missing", tree{}, 127, "it does not exist in the container"},
		{"dangling", tree{"p": link("/gone")}, 127, "it is a link to /gone, which does not exist"},
		{"link to the host", tree{"p": link("../../../../../../bin/true")}, 127, "does not exist in the container"},
		{"loop", tree{"p": link("p")}, 126, "too many levels of symbolic links"},
		{"directory", tree{"p": nil}, 126, "it is a directory"},
		{"FIFO", tree{"p": fifo}, 126, "it is not a regular file"},
		{"not executable", tree{"p": mode("#!/bin/sh\n", 0o644)}, 126, "it is not executable"},
		{"other CPU", tree{"p": arm64}, 126, "another CPU (aarch64)"},
		{"unknown CPU", tree{"p": s390x}, 126, "a CPU that containers cannot have"},
		{"no interpreter", tree{"p": dyn64}, 127, "its ELF interpreter /lib64/ld.so is unusable (it does not exist in the container)"},
		{"interpreter is a directory", tree{"p": dyn64, "lib64/ld.so": nil}, 126, "is unusable (it is a directory)"},
		{"script without interpreter", tree{"p": "#!/usr/bin/python\n"}, 127, "its interpreter /usr/bin/python is unusable (it does not exist"},
		{"script of another CPU's shell", tree{"p": "#!/bin/sh", "bin/sh": arm64}, 126, "(it is made for another CPU"},
		{"scripts in a circle", tree{"p": "#!/p\n"}, 126, "too many scripts"},
		{"no interpreter named", tree{"p": "#!  \n"}, 126, "neither an ELF program nor a script"},
		{"text", tree{"p": "echo hi\n"}, 126, "neither an ELF program nor a script"},
		{"empty", tree{"p": ""}, 126, "neither an ELF program nor a script"},
		{"truncated", tree{"p": amd64[:70]}, 126, "damaged"},
		{"hostile interpreter name", tree{"p": "#!/a\x1b[2J\n"}, 127, `its interpreter "/a\x1b[2J"`},
		{"under a file", tree{"x": "y", "p": link("x/y")}, 126, "not a directory"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := Programs{Root: tc.tree.open(t), Runs: onX86}.Inspect("/p")
			if tc.status == 0 {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var pe *ProgramError
			if !errors.As(err, &pe) || pe.Status != tc.status || !strings.Contains(pe.Cause, tc.cause) || pe.Path != "/p" {
				t.Fatalf("got %#v (%v), want status %d and %q", pe, err, tc.status, tc.cause)
			}
		})
	}
}

func TestLookPath(t *testing.T) {
	root := tree{
		"bin/a": amd64, "usr/bin/a": "#!/bin/a\n", "usr/bin/deep": amd64, "opt/x": amd64,
		"bin/noexec": mode("x", 0o644), "usr/bin/noexec": amd64, "bin/onlynoexec": mode("x", 0o644), "bin/dir": nil,
		"bin/broken": link("/nowhere"), "usr/bin/broken": arm64, "real/sub": nil, "real/prog": amd64, "l": link("real/sub"),
	}.open(t)
	for _, tc := range []struct{ name, path, dir, want, err string }{
		{"a", "/bin:/usr/bin", "/", "/bin/a", ""},
		{"a", "/usr/bin:/bin", "/", "/usr/bin/a", ""},
		{"noexec", "/bin:/usr/bin", "/", "/usr/bin/noexec", ""},
		{"onlynoexec", "/bin:/usr/bin", "/", "", `"/bin/onlynoexec": it is not executable`},
		{"dir", "/bin", "/", "", "it is a directory"},
		{"broken", "/bin:/usr/bin", "/", "", `"/usr/bin/broken": it is made for another CPU`},
		{"x", "", "/opt", "/opt/x", ""},
		{"x", ":/bin", "/opt", "/opt/x", ""},
		{"./x", "/bin", "/opt", "/opt/./x", ""},
		{"../prog", "/bin", "/l", "/l/../prog", ""}, // ".." of the directory that l leads to
		{"/opt/x", "", "/", "/opt/x", ""},
		{"bin/a", "", "/", "/bin/a", ""},
		{"nope", "/bin", "/", "", "no such program in its PATH (/bin)"},
		{"", "/bin", "/", "", "its name is empty"},
		{"/nope", "/bin", "/", "", "does not exist"},
		{"a", "/bound:/bin", "/", "/bound/a", ""},
	} {
		t.Run(tc.name+" in "+tc.path, func(t *testing.T) {
			host := t.TempDir()
			if err := os.WriteFile(host+"/a", []byte("whatever"), 0o755); err != nil {
				t.Fatal(err)
			}
			p := Programs{Root: root, Runs: onX86, Bound: func(name string) (string, bool) {
				rest, ok := strings.CutPrefix(name, "/bound")
				return host + rest, ok
			}}
			got, err := p.LookPath(tc.name, tc.path, tc.dir)
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Fatalf("error %v, want %q", err, tc.err)
			}
			if err == nil && got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestLoginShell(t *testing.T) {
	for _, tc := range []struct {
		name, shell string
		tree        tree
		want, err   string
	}{
		{"the user's", "/bin/zsh", tree{"bin/zsh": amd64, "bin/sh": amd64}, "/bin/zsh", ""},
		{"missing", "/bin/zsh", tree{"bin/bash": amd64, "bin/sh": amd64}, "/bin/bash", ""},
		{"no account", "", tree{"bin/sh": link("/bin/busybox"), "bin/busybox": amd64}, "/bin/sh", ""},
		{"nologin", "/usr/sbin/nologin", tree{"usr/sbin/nologin": amd64, "bin/sh": amd64}, "/bin/sh", ""},
		{"relative", "sh", tree{"sh": amd64, "bin/sh": amd64}, "/bin/sh", ""},
		{"broken, another works", "/bin/zsh", tree{"bin/zsh": arm64, "bin/sh": amd64}, "/bin/sh", ""},
		{"all broken", "", tree{"bin/bash": dyn64, "bin/sh": dyn64}, "", `"/bin/bash": its ELF interpreter /lib64/ld.so is unusable`},
		{"none", "/bin/zsh", tree{"app": amd64}, "", "the container has no shell"},
		{"dangling", "", tree{"bin/sh": link("/usr/bin/dash")}, "", "the container has no shell"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := LoginShell(Programs{Root: tc.tree.open(t), Runs: onX86}, User{Shell: tc.shell})
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Fatalf("error %v, want %q", err, tc.err)
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			var pe *ProgramError
			if noShell := strings.Contains(tc.err, "no shell"); errors.Is(err, ErrNoShell) != noShell || err != nil && !errors.As(err, &pe) {
				t.Errorf("error %#v", err)
			}
		})
	}
}

func FuzzReadELF(f *testing.F) {
	for _, seed := range [][]byte{amd64, arm64, i386, s390x, dyn64, dyn386, amd64[:70], []byte("#!/bin/sh -e\n")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := readELF(bytes.NewReader(data))
		if err != nil && !errors.Is(err, errNotELF) && !errors.Is(err, errBadELF) {
			t.Errorf("untyped error %v", err)
		}
		if len(p.interp) > maxInterpreter || strings.Contains(p.interp, "\x00") {
			t.Errorf("interpreter %q", p.interp)
		}
		// The standard library agrees wherever it accepts the file.
		std, stdErr := elf.NewFile(bytes.NewReader(data))
		if stdErr == nil && err == nil && p.arch != "" && std.FileHeader.Machine == elf.EM_X86_64 && p.arch != platform.X86_64 {
			t.Errorf("arch %s for %v", p.arch, std.FileHeader.Machine)
		}
		if interp, ok := readShebang(bytes.NewReader(data)); ok && (interp == "" || strings.ContainsAny(interp, " \t\n\x00")) {
			t.Errorf("interpreter %q", interp)
		}
	})
}
