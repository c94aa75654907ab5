package native

import (
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A foreground is the terminal of this process and the process group that it obeys.
type foreground struct {
	fd, group int // fd is -1 without a terminal, or when others have it
}

// currentForeground looks at the terminal on standard input, or else output. A
// shell in the guest makes groups of its own the foreground; the one it found has no
// number in the guest's pid namespace, so it cannot put it back.
func currentForeground() foreground {
	for fd := range 3 {
		group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		if err == nil && group == unix.Getpgrp() {
			return foreground{fd, group}
		}
	}
	return foreground{fd: -1}
}

// restore makes the group the foreground again: a script that runs this program
// would else be stopped when it reads from its terminal.
func (f foreground) restore() {
	if f.fd < 0 {
		return
	}
	if group, err := unix.IoctlGetInt(f.fd, unix.TIOCGPGRP); err != nil || group == f.group {
		return
	}
	// The kernel stops who does this from the background, unless it blocks SIGTTOU.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var block, old unix.Sigset_t
	const bits = 32 << (^uint(0) >> 63)
	block.Val[(int(unix.SIGTTOU)-1)/bits] = 1 << ((uint(unix.SIGTTOU) - 1) % bits)
	if unix.PthreadSigmask(unix.SIG_BLOCK, &block, &old) != nil {
		return
	}
	_ = unix.IoctlSetPointerInt(f.fd, unix.TIOCSPGRP, f.group) // it may be gone by now
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
}

// terminalPath is the host path of the terminal on a descriptor, "" without one.
func terminalPath(fd int) string {
	if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err != nil {
		return ""
	}
	path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil || !strings.HasPrefix(path, "/dev/") {
		return ""
	}
	var open, named unix.Stat_t
	if unix.Fstat(fd, &open) != nil || unix.Stat(path, &named) != nil || open.Rdev != named.Rdev {
		return ""
	}
	return path
}
