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
// setuid or setgid bit.
func (p *pass) keptMode(info rootfs.Info) fs.FileMode {
	mode := info.Mode
	if p.faithful && p.uid == 0 {
		return mode // the owner is kept too
	}
	if mode.IsRegular() && info.UID != p.uid {
		mode &^= fs.ModeSetuid
	}
	if mode.IsRegular() && info.GID != p.gid {
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

// specialBits pairs Go's special permission bits with those of chmod(2).
var specialBits = [...]struct {
	mode fs.FileMode
	unix uint32
}{
	{fs.ModeSetuid, unix.S_ISUID},
	{fs.ModeSetgid, unix.S_ISGID},
	{fs.ModeSticky, unix.S_ISVTX},
}

// infoOf gives what a copy keeps of a regular file or a directory.
func infoOf(st *unix.Stat_t) rootfs.Info {
	sec, nsec := st.Mtim.Unix()
	info := rootfs.Info{
		Mode: fs.FileMode(st.Mode & 0o777), Size: st.Size, MTime: time.Unix(sec, nsec),
		UID: int(st.Uid), GID: int(st.Gid),
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		info.Mode |= fs.ModeDir
	}
	for _, bit := range specialBits {
		if uint32(st.Mode)&bit.unix != 0 {
			info.Mode |= bit.mode
		}
	}
	return info
}

// statDir describes an open directory.
func statDir(dir *rootfs.Dir) rootfs.Info {
	var st unix.Stat_t
	if unix.Fstat(dir.Fd(), &st) != nil {
		return rootfs.Info{}
	}
	return infoOf(&st)
}

// unixMode gives permissions and special bits as chmod(2) takes them.
func unixMode(mode fs.FileMode) uint32 {
	m := uint32(mode.Perm())
	for _, bit := range specialBits {
		if mode&bit.mode != 0 {
			m |= bit.unix
		}
	}
	return m
}
