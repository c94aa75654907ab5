package native

import (
	"fmt"
	"io/fs"
	"unsafe"

	"golang.org/x/sys/unix"

	"proot-distro/internal/platform"
	"proot-distro/internal/tinyelf"
)

// The launcher is the program that a guest's process executes before the guest's own. As long as
// it is a copy of this process, /proc/self/exe is this program's file, and a guest can name that
// as program, interpreter or link: it would run in the container, where the guest can open it
// through /proc and so change the modes of a file of the host's, or the file itself. Behind the
// launcher /proc/self/exe is a file in memory that is nobody's.
//
// Its arguments are files to execute, of which the first that can be counts, an empty
// argument, and the arguments for it. It writes the last error to descriptor 3, where there
// is one, and closes that and all above it by executing.
//
// It is written in assembly language (launcher_*.s), runs at no other place than it was linked
// for, and so is copied from the text of this program.
func launcher()

// launcherAddress is where the code begins.
func launcherAddress() uintptr

const (
	launcherSize = 256 // of the code, and something behind it that is never reached
	reportedBy   = 3   // descriptor for the error
)

// openLauncher gives a descriptor of the launcher, as a file that has no name and that nobody can change any
// more. Where files in memory must not be programs (sysctl vm.memfd_noexec), it lies on dir's file system.
func openLauncher(dir string) (int, error) {
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
	flags := unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("launcher", flags|unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate("launcher", flags)
	}
	if err == unix.EACCES {
		return launcherIn(dir)
	}
	if err != nil {
		return -1, fmt.Errorf("make a program in memory: %w", err)
	}
	_, err = unix.Write(fd, launcherELF())
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	}
	if err == nil {
		fd, err = aboveReport(fd)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("make a program in memory: %w", err)
	}
	return fd, nil
}

// launcherIn gives a descriptor of the launcher on a directory's file system.
func launcherIn(dir string) (int, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o500)
	if err != nil {
		return -1, &fs.PathError{Op: "make a program in", Path: dir, Err: err}
	}
	defer unix.Close(fd) // while it may be written, it cannot be executed
	var program int
	_, err = unix.Write(fd, launcherELF())
	if err == nil {
		program, err = unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err == nil {
		program, err = aboveReport(program)
	}
	if err != nil {
		return -1, &fs.PathError{Op: "make a program in", Path: dir, Err: err}
	}
	return program, nil
}

// aboveReport moves a descriptor out of the way of the launcher's.
func aboveReport(fd int) (int, error) {
	if fd > reportedBy {
		return fd, nil
	}
	moved, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, reportedBy+1)
	if err != nil {
		return fd, err
	}
	unix.Close(fd)
	return moved, nil
}

// launcherELF is the launcher as a program.
func launcherELF() []byte {
	code := unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(nil), launcherAddress())), launcherSize)
	return tinyelf.Executable(platform.Binary(), code)
}
