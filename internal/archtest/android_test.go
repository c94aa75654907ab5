package archtest

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// androidKills are system calls that Android answers with SIGSYS in some of its versions from
// 9 to 16, under the names of the package that makes them. x/sys/unix has no guards; Go's own
// packages have theirs for GOOS=android.
var androidKills = []string{
	"Clone3", "CloseRange", "CopyFileRange", "Faccessat2", "Fchmodat2", "FsConfig", "Fsconfig", "Fsmount", "Fsopen", "Fspick",
	"Landlock", "MemfdSecret", "Mount", "MountSetattr", "MoveMount", "OpenTree", "Openat2", "PidfdGetfd", "PidfdOpen",
	"PidfdSendSignal", "PivotRoot", "Setgid", "Setgroups", "Sethostname", "Setuid", "Statx", "Unmount",
}

// notOnAndroid are the places that never run there.
var notOnAndroid = map[string]string{
	"internal/engine/native/":          "namespaces, which cli refuses on Termux",
	"internal/overlay/":                "mount namespaces, which Android does not let apps make",
	"internal/transfer/range_linux.go": "not built for Android",
}

func TestAndroidKillsNone(t *testing.T) {
	unused := maps.Clone(notOnAndroid)
	for _, s := range sources(t) {
		if s.test() || !s.inside() {
			continue
		}
		for _, use := range uses(s.ast) {
			pkg, name, _ := strings.Cut(use.name, ".")
			kills := slices.Contains(androidKills, name) || slices.Contains(androidKillNumbers, name)
			if pkg != "unix" && pkg != "syscall" || !kills {
				continue
			}
			allowed := false
			for place := range notOnAndroid {
				if strings.HasPrefix(s.name, place) {
					allowed = true
					delete(unused, place)
				}
			}
			if !allowed {
				t.Errorf("%s: %s ends the program on Android: use an older call", s.at(use.node), use.name)
			}
		}
	}
	for place := range unused {
		t.Errorf("the exception %q is not needed any more", place)
	}
}

var androidKillNumbers = []string{
	"SYS_CLONE3", "SYS_CLOSE_RANGE", "SYS_FACCESSAT2", "SYS_FCHMODAT2", "SYS_IO_URING_SETUP", "SYS_OPENAT2", "SYS_OPEN_TREE",
	"SYS_MOVE_MOUNT", "SYS_MOUNT", "SYS_MOUNT_SETATTR", "SYS_PIDFD_OPEN", "SYS_PIDFD_SEND_SIGNAL", "SYS_STATX",
}
