package transfer

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/internal/rootfs"
)

// tempPrefix begins the temporary names of every command.
const tempPrefix = ".~pd_"

// staleTemp tells a temporary file, ".~pd_sync.<pid>.<n>", whose process is gone.
func staleTemp(name string) bool {
	rest, ok := strings.CutPrefix(name, tempPrefix)
	if !ok {
		return false
	}
	parts := strings.Split(rest, ".")
	if len(parts) != 3 {
		return false
	}
	pid, err := strconv.Atoi(parts[1])
	return err == nil && pid > 0 && unix.Kill(pid, 0) == unix.ESRCH
}

func isPermission(err error) bool { return errors.Is(err, unix.EACCES) }

// keptMode is the mode of a copy: only its owner may lend his identity by a
// setuid or setgid bit. What a guest has set it on lends that of the guest's user.
func (p *pass) keptMode(info rootfs.Info) fs.FileMode {
	mode := info.Mode
	if p.faithful && p.uid == 0 {
		return mode // the owner is kept too
	}
	out := leaves(p.from, p.to)
	if mode.IsRegular() && (out || info.UID != p.uid) {
		mode &^= fs.ModeSetuid
	}
	if mode.IsRegular() && (out || info.GID != p.gid) {
		mode &^= fs.ModeSetgid
	}
	return mode
}

// setTime sets a modification time, of a link itself too.
func setTime(dir int, name string, mtime time.Time) error {
	m, err := unix.TimeToTimespec(mtime)
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(dir, name, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, m}, unix.AT_SYMLINK_NOFOLLOW)
}

// statDir describes an open directory.
func statDir(dir *rootfs.Dir) rootfs.Info {
	var st unix.Stat_t
	if unix.Fstat(dir.Fd(), &st) != nil {
		return rootfs.Info{}
	}
	return rootfs.InfoOf(&st)
}
