package stories

import (
	"os"

	"golang.org/x/sys/unix"

	"proot-distro/test/fixtures"
)

// atMost is what the stories occupy at a time, with room to spare.
const atMost = 6 << 30

// holdsStories reports whether a directory in memory will do for stories, which make and delete some hundred thousand
// files: that takes a disk longer than everything else they do. They set extended attributes (tmpfs: since Linux 6.6).
func holdsStories(dir string) bool {
	if !fixtures.Roomy(dir, atMost) {
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
