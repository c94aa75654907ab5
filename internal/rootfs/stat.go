package rootfs

import (
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// InfoOf gives what fstat(2) tells.
func InfoOf(st *unix.Stat_t) Info {
	sec, nsec := st.Mtim.Unix()
	return Info{
		Mode:   FileMode(uint32(st.Mode)),
		Size:   st.Size,
		Stored: st.Blocks * 512,
		MTime:  time.Unix(sec, nsec),
		Dev:    uint64(st.Dev),
		Ino:    uint64(st.Ino),
		Nlink:  uint64(st.Nlink),
		UID:    int(st.Uid),
		GID:    int(st.Gid),
	}
}

// modeBits pairs Go's special permission bits with those of chmod(2).
var modeBits = [...]struct {
	mode fs.FileMode
	unix uint32
}{
	{fs.ModeSetuid, unix.S_ISUID},
	{fs.ModeSetgid, unix.S_ISGID},
	{fs.ModeSticky, unix.S_ISVTX},
}

// FileMode turns st_mode into Go's form.
func FileMode(m uint32) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	for _, b := range modeBits {
		if m&b.unix != 0 {
			mode |= b.mode
		}
	}
	switch m & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	case unix.S_IFIFO:
		mode |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		mode |= fs.ModeSocket
	case unix.S_IFCHR:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		mode |= fs.ModeDevice
	default:
		mode |= fs.ModeIrregular
	}
	return mode
}

// UnixMode gives the permissions and special bits as chmod(2) takes them.
func UnixMode(mode fs.FileMode) uint32 {
	m := uint32(mode.Perm())
	for _, b := range modeBits {
		if mode&b.mode != 0 {
			m |= b.unix
		}
	}
	return m
}
