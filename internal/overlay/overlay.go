// Package overlay mounts directories over one another, see
// https://docs.kernel.org/filesystems/overlayfs.html.
//
// It takes a mount namespace of one's own, and marks in user.overlay.* attributes, which work the same for root and
// for root of a user namespace (Linux 5.11). What was deleted is a character device 0:0 in the upper directory, and a
// directory that hides the ones below has the attribute [Opaque]. Nothing else of the upper directory is particular to
// overlays, since neither redirects nor indexes nor files without content are asked for.
package overlay

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"proot-distro/internal/rootfs"
)

// Attributes of an upper directory's entries. A directory is opaque if its value is "y".
const (
	Opaque = "user.overlay.opaque"
	Origin = "user.overlay.origin" // of what was copied from a lower directory
)

// MaxLower is how many lower directories a mount can have: their names share a page with all options.
const MaxLower = 64

// Stack says what lies over what.
type Stack struct {
	Lower       []*rootfs.Dir // the highest first; nobody writes to them
	Upper, Work *rootfs.Dir   // of the same file system; the latter is empty. Nil for a read-only mount of two or more.
}

// Mount mounts a stack at a path of the host. Set-user-ID programs and devices in it have no effect outside of a guest's
// own namespace.
func Mount(s Stack, at string) error {
	if len(s.Lower) == 0 || len(s.Lower) > MaxLower {
		return fmt.Errorf("mount overlay: %d lower directories", len(s.Lower))
	}
	names := make([]string, len(s.Lower))
	for i, d := range s.Lower {
		names[i] = name(d)
	}
	options := "userxattr,lowerdir=" + strings.Join(names, ":")
	if s.Upper != nil {
		options += ",upperdir=" + name(s.Upper) + ",workdir=" + name(s.Work)
	}
	if err := unix.Mount("overlay", at, "overlay", unix.MS_NODEV, options); err != nil {
		return &os.PathError{Op: "mount overlay", Path: at, Err: err}
	}
	return nil
}

// name is one that needs no escapes and is short, whatever the directory's path.
func name(d *rootfs.Dir) string { return "/proc/self/fd/" + strconv.Itoa(d.Fd()) }

// Unmount undoes Mount, also while files in it are open.
func Unmount(at string) error {
	if err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return &os.PathError{Op: "unmount overlay", Path: at, Err: err}
	}
	return nil
}

// Probe tries an overlay in an empty directory, which it fills, and reports why there can be none.
func Probe(dir *rootfs.FS) (err error) {
	dirs := map[string]*rootfs.Dir{}
	for _, name := range []string{"lower", "upper", "work", "mount"} {
		if err := dir.MkdirAll(name, 0o755); err != nil {
			return err
		}
		d, err := dir.OpenDir(name)
		if err != nil {
			return err
		}
		defer d.Close()
		dirs[name] = d
	}
	if err := dir.Mkdir("lower/gone", 0o755); err != nil {
		return err
	}
	// Without attributes, the kernel mounts it all the same and fails later.
	if err := unix.Setxattr(name(dirs["upper"]), "user.overlay.probe", []byte("y"), 0); err != nil {
		return fmt.Errorf("extended attributes of %s: %w", dir.Path(), err)
	}
	at := dir.Path() + "/mount"
	if err := Mount(Stack{Lower: []*rootfs.Dir{dirs["lower"]}, Upper: dirs["upper"], Work: dirs["work"]}, at); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, Unmount(at)) }()
	if err := os.Remove(at + "/gone"); err != nil {
		return err
	}
	if err := os.Mkdir(at+"/gone", 0o755); err != nil {
		return err
	}
	var opaque [1]byte
	if _, err := unix.Getxattr(name(dirs["upper"])+"/gone", Opaque, opaque[:]); err != nil {
		return fmt.Errorf("no opaque directories in %s: %w", dir.Path(), err)
	}
	if opaque[0] != 'y' {
		return fmt.Errorf("no opaque directories in %s, but marks %q", dir.Path(), opaque)
	}
	return nil
}
