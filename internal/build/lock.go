package build

import (
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"proot-distro/internal/flock"
	"proot-distro/internal/host"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/rootfs"
)

// BusyError says that another process builds or pushes the same image.
type BusyError struct {
	Ref  oci.Ref
	Arch platform.Arch
	flock.Holder
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("image %s for %s is in use by %s", e.Ref, e.Arch, e.Holder)
}

// Lock takes the lock of an image, which build and push hold: locks/build/<key>.lock. command is
// what a [BusyError] of others shall call this process.
func Lock(dirs host.Dirs, ref oci.Ref, arch platform.Arch, command string) (release func() error, err error) {
	f, err := openLock(dirs, ref.CacheKey(arch)+lockSuffix)
	if err != nil {
		return nil, fmt.Errorf("lock image: %w", err)
	}
	held, err := flock.Try(f, unix.LOCK_EX)
	switch {
	case err != nil:
		err = fmt.Errorf("lock image: %w", err)
	case !held:
		err = &BusyError{ref, arch, flock.Find(f)}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	flock.Sign(f, command)
	return f.Close, nil
}

func openLock(dirs host.Dirs, name string) (*os.File, error) {
	tree, err := rootfs.OpenState(dirs.Runtime, dirs.Locks(), true)
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	const builds = "build"
	if err := tree.MkdirAll(builds, 0o755); err != nil {
		return nil, err
	}
	dir, base, err := tree.Parent(path.Join(builds, name))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.OpenFile(base, os.O_RDWR|os.O_CREATE, 0o600)
}
