package engine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"proot-distro/internal/host"
	"proot-distro/internal/platform"
)

// FindEmulator gives the absolute path of the user-mode emulator for programs of
// architecture guest, or "" where this machine's CPU runs them itself. override,
// if not empty, is the emulator to take in any case.
func FindEmulator(h *host.Host, guest platform.Arch, override string) (string, error) {
	if override != "" {
		if err := CheckProgram(override); err != nil {
			return "", fmt.Errorf("--emulator: %w", err)
		}
		return filepath.Abs(override)
	}
	if native(h.Arch, guest) {
		return "", nil
	}
	// A static one needs nothing of the host at run time.
	for _, name := range []string{guest.Qemu() + "-static", guest.Qemu()} {
		if path, err := exec.LookPath(name); err == nil {
			return filepath.Abs(path)
		}
	}
	pkg := "qemu-user"
	if h.Termux {
		pkg = guest.QemuPackage()
	}
	hint := h.InstallCommand(pkg)
	if hint == "" {
		hint = "install " + pkg
	} else {
		hint = "run '" + hint + "'"
	}
	return "", fmt.Errorf("%s programs need the emulator %s on this %s machine, and there is none in PATH: %s, or name one with --emulator",
		guest, guest.Qemu(), h.Arch, hint)
}

// native reports whether the CPU runs the guest's programs. Not every 64-bit ARM
// core has the 32-bit instruction set.
func native(cpu, guest platform.Arch) bool {
	if cpu == platform.AArch64 && guest == platform.ARM {
		return allowsPersonality32()
	}
	return cpu.Runs(guest)
}

// allowsPersonality32 asks the kernel by switching a thread over, which ends here.
func allowsPersonality32() bool {
	const perLinux32 = 0x0008
	answer := make(chan bool)
	go func() {
		runtime.LockOSThread()
		_, _, errno := unix.RawSyscall(unix.SYS_PERSONALITY, perLinux32, 0, 0)
		answer <- errno == 0
	}()
	return <-answer
}

// CheckProgram reports, in a sentence, why a file of the host cannot be run.
func CheckProgram(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%s does not exist", path)
	case err != nil:
		return fmt.Errorf("cannot look at %s: %w", path, errors.Unwrap(err))
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a program file", path)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if _, err := exec.LookPath(abs); err != nil {
		return fmt.Errorf("%s is not executable by you: run 'chmod +x' on it, or name another program", path)
	}
	return nil
}
