package build

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"proot-distro/internal/host"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/rootfs"
)

// BusyError says that another process builds or pushes the same image.
type BusyError struct {
	Ref     oci.Ref
	Arch    platform.Arch
	PID     int    // 0 when unknown
	Command string // "build"; empty when unknown
}

func (e *BusyError) Error() string {
	who := "another process"
	if e.PID != 0 && e.Command != "" {
		who = fmt.Sprintf("%s (PID %d)", e.Command, e.PID)
	}
	return fmt.Sprintf("image %s for %s is in use by %s", e.Ref, e.Arch, who)
}

// Lock takes the lock of an image, which build and push hold: locks/build/<key>.lock. command is
// what a [BusyError] of others shall call this process.
func Lock(dirs host.Dirs, ref oci.Ref, arch platform.Arch, command string) (release func() error, err error) {
	if err := os.MkdirAll(dirs.Runtime, 0o755); err != nil {
		return nil, fmt.Errorf("lock image: %w", err)
	}
	tree, err := rootfs.Open(dirs.Runtime, rootfs.NoLinks)
	if err != nil {
		return nil, fmt.Errorf("lock image: %w", err)
	}
	defer tree.Close()
	name := path.Join(path.Base(dirs.Locks()), "build")
	if err := tree.MkdirAll(name, 0o755); err != nil {
		return nil, fmt.Errorf("lock image: %w", err)
	}
	dir, err := tree.OpenDir(name)
	if err != nil {
		return nil, fmt.Errorf("lock image: %w", err)
	}
	defer dir.Close()
	f, err := dir.OpenFile(ref.CacheKey(arch)+lockSuffix, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock image: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		busy := &BusyError{Ref: ref, Arch: arch}
		busy.PID, busy.Command = holder(f)
		f.Close()
		return nil, busy
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock image: %w", err)
	}
	text := fmt.Sprintf("%d %s", os.Getpid(), command)
	if _, err := f.WriteAt([]byte(text), 0); err == nil { // a hint: nothing fails with it
		_ = f.Truncate(int64(len(text)))
	}
	return f.Close, nil
}

// holder reads "<pid> <command>". A guest on Termux can write there: only what is safe to show counts.
func holder(f *os.File) (pid int, command string) {
	buf := make([]byte, 64)
	n, _ := f.ReadAt(buf, 0)
	number, command, _ := strings.Cut(strings.TrimSpace(string(buf[:n])), " ")
	pid, err := strconv.Atoi(number)
	if err != nil || pid <= 0 || strings.Trim(command, "abcdefghijklmnopqrstuvwxyz-") != "" {
		return 0, ""
	}
	return pid, command
}
