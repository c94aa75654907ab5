package native

import (
	"debug/elf"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
	"proot-distro/internal/platform"
)

// binfmtDir is where the guest finds the kernel's table of interpreters. Since Linux 6.7
// each user namespace may have one of its own (binfmt_misc), so that programs of another
// architecture start through an emulator without any set-up of the host.
const binfmtDir = "proc/sys/fs/binfmt_misc"

// checkEmulator makes sure that the emulator runs where the host's libraries are out
// of sight, and that the kernel will start it: by an entry of ours, or else by one that
// the host has for it.
func checkEmulator(s engine.Spec) (ours bool, err error) {
	cannot := func(fix string) error {
		return &engine.Unsupported{
			Engine: "the native engine", Option: fmt.Sprintf("programs of %s here", s.Arch), Fix: fix + ", or take proot with --engine proot",
		}
	}
	f, err := elf.Open(s.Emulator)
	var strange *elf.FormatError
	if errors.As(err, &strange) {
		return false, fmt.Errorf("emulator %s is no ELF program, as qemu's are", s.Emulator)
	}
	if err != nil {
		return false, fmt.Errorf("read emulator %s: %w", s.Emulator, err)
	}
	defer f.Close()
	for _, segment := range f.Progs {
		if segment.Type == elf.PT_INTERP {
			return false, cannot(s.Emulator + " is not statically linked; install qemu-user-static")
		}
	}
	err = tryEmulator(s)
	if err != nil && !hostStarts(s.Emulator, s.Arch) {
		return false, cannot(fmt.Sprintf("Linux 6.7 or newer with binfmt_misc is needed, or an entry with flag F in the host's (%v)", err))
	}
	return err == nil, nil
}

// tryEmulator registers the emulator in a user namespace that ends at once.
func tryEmulator(s engine.Spec) error {
	maps, err := newIDMaps()
	if err != nil {
		return err
	}
	f := &family{flags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, maps: maps, memory: newChildMemory()}
	f.setup.step("make mounts private")
	f.setup.do(unix.SYS_MOUNT, 0, "/", 0, unix.MS_REC|unix.MS_PRIVATE, 0)
	f.setup.step("mount binfmt_misc")
	f.setup.do(unix.SYS_MOUNT, "binfmt_misc", "/proc", "binfmt_misc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, 0)
	f.setup.step("register %s", s.Emulator)
	f.setup.write(f.setup.do(unix.SYS_OPENAT, atCWD, "/proc/register", unix.O_WRONLY|unix.O_CLOEXEC, 0), binfmtEntry(s))
	f.rest.step("close files")
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, err := f.start()
	if err != nil {
		return err
	}
	_, err = wait(pid)
	return err
}

// emulator registers the emulator for the guest's programs. It is a file of the host,
// opened now (flag F); the guest need not see it, but finds it in /proc. Hence it is opened by
// way of a read-only mount, or its owner could change its mode there.
func (t *tree) emulator(s engine.Spec) {
	t.step("mount binfmt_misc")
	t.filesystem("binfmt_misc", binfmtDir, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	t.step("register emulator %s", s.Emulator)
	file := t.clone(s.Emulator, false)
	t.setAttributes(file, unix.MOUNT_ATTR_RDONLY, 0)
	t.do(unix.SYS_MOVE_MOUNT, file, "", atCWD, s.Emulator, unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_SYMLINKS)
	t.do(unix.SYS_CLOSE, file)
	t.write(t.open(binfmtDir+"/register", unix.O_WRONLY), binfmtEntry(s))
}

// binfmtEntry is a line for binfmt_misc (see Linux, admin-guide/binfmt-misc): which ELF
// headers it is for, in bytes that are compared under a mask. Executables and shared
// objects count, of any OS ABI. P keeps argv[0], C the rights of set-user-ID programs.
func binfmtEntry(s engine.Spec) string {
	magic := header(s.Arch)
	mask := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00,
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff}
	if s.Arch == platform.X86_64 || s.Arch == platform.I686 {
		mask[8] = 0xfe // some linkers of these write an ABI version
	}
	// The first character separates the fields; a path may have a colon in it.
	fields := []string{"", s.Arch.Qemu(), "M", "0", escaped(magic), escaped(mask), s.Emulator, "FPC"}
	return strings.Join(fields, "\x01")
}

// header is the beginning of an ELF executable.
func header(arch platform.Arch) []byte {
	machine, class := arch.ELF()
	return []byte{0x7f, 'E', 'L', 'F', byte(class), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT), 0,
		0, 0, 0, 0, 0, 0, 0, 0, byte(elf.ET_EXEC), 0, byte(machine), byte(machine >> 8)}
}

func escaped(data []byte) string {
	var b strings.Builder
	for _, c := range data {
		fmt.Fprintf(&b, `\x%02x`, c)
	}
	return b.String()
}
