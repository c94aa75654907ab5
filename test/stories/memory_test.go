package stories

import (
	"os"

	"golang.org/x/sys/unix"
)

// memory is where stories work when nobody says otherwise and it will do: they make and delete some hundred thousand
// files, which takes a disk longer than everything else they do.
const memory = "/dev/shm"

// atMost is what the stories occupy at a time, with room to spare.
const atMost = 6 << 30

// holdsStories reports whether dir has room, lets programs run and keeps extended attributes (tmpfs: since Linux 6.6).
func holdsStories(dir string) bool {
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) != nil || fs.Flags&unix.ST_NOEXEC != 0 || fs.Bavail*uint64(fs.Bsize) < atMost {
		return false
	}
	probe, err := os.CreateTemp(dir, "pd-stories-")
	if err != nil {
		return false
	}
	defer os.Remove(probe.Name())
	defer probe.Close()
	return unix.Fsetxattr(int(probe.Fd()), "user.probe", []byte("1"), 0) == nil
}
