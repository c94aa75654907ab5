package native

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
)

// IDs says which user and group IDs exist in a user namespace.
type IDs int

const (
	// SingleID is root alone, who is the calling user outside.
	SingleID IDs = iota
	// AllIDs are root, who is the calling user outside, and from 1 on the IDs that
	// /etc/subuid and /etc/subgid grant to that user. For real root they are those
	// of the machine.
	AllIDs
	// OwnID is the calling user alone, under its own number, who has the capabilities that
	// mounting takes: for a program that mounts something and is the same user's for all others
	// (ssh, credential helpers). Programs that it starts do not get them.
	OwnID
)

// insideEnv tells a program that Unshare has started it, and from which mount
// namespace: "mnt:[4026531841]".
const insideEnv = "PD_UNSHARED_FROM"

// Unshare runs this program once more, with argv (nil: as it was called itself), as
// the root of a new user namespace and in a new mount namespace whose mounts are
// private: it may mount, and with AllIDs read, change and delete what belongs to
// those IDs. Real root gets the mount namespace only. Nothing else differs: files,
// processes, standard streams, environment, terminal and process group are the caller's.
//
// Unshare returns the program's exit status, 128+N when signal N killed it. Meanwhile this
// process passes on signals; SIGINT and SIGQUIT, too, which a terminal sends to both. The
// program dies when this process is killed. Files that this process has open and
// locks that it holds stay its own: give them up first. The error is a
// [*StepError] or a [*FullMapError] where namespaces cannot be had.
//
// The program sees by [Unshared] that it has come about this way.
func Unshare(ids IDs, argv []string) (status int, err error) {
	f, err := newUnshared(ids)
	if err != nil {
		return 0, err
	}
	if argv == nil {
		argv = os.Args
	}
	if err := f.becomeProgram(argv); err != nil {
		return 0, err
	}
	signals := engine.CatchSignals(append([]os.Signal{unix.SIGINT, unix.SIGQUIT}, forwarded...)...)
	defer signal.Stop(signals)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, err := f.start()
	if err != nil {
		return 0, err
	}
	// The program looks here for the limit that its guests shall have.
	if limit := inheritedFileLimit(); limit != nil {
		_ = unix.Prlimit(0, unix.RLIMIT_NOFILE, limit, nil) // at worst theirs is higher
	}
	done := make(chan struct{})
	defer close(done)
	go attend(context.Background(), pid, signals, done)
	ended, err := wait(pid)
	switch {
	case err != nil:
		return 0, fmt.Errorf("wait for %s: %w", os.Args[0], err)
	case ended.Signaled():
		return 128 + int(ended.Signal()), nil
	}
	return ended.ExitStatus(), nil
}

// newUnshared plans a process in new namespaces.
func newUnshared(ids IDs) (f *family, err error) {
	f = &family{flags: unix.CLONE_NEWNS, memory: newChildMemory()}
	switch {
	case os.Geteuid() != 0:
		f.flags |= unix.CLONE_NEWUSER
		f.maps, err = mapsFor(ids)
	case ids == AllIDs && !HasAllIDs():
		err = &FullMapError{
			Problem: "root is the only user of the namespace that this program runs in",
			Remedy:  "Run it as the ordinary user instead.",
		}
	}
	f.setup.step("make mounts private")
	f.setup.do(unix.SYS_MOUNT, 0, "/", 0, unix.MS_REC|unix.MS_PRIVATE, 0)
	if ids == OwnID && os.Geteuid() != 0 && err == nil {
		err = keepOverlayCapabilities(&f.setup)
	}
	return f, err
}

// becomeProgram makes the supervisor itself this program, with argv.
func (f *family) becomeProgram(argv []string) error {
	from, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return fmt.Errorf("look at the mount namespace: %w", err)
	}
	s := &f.setup
	s.step("run this program again")
	restoreFileLimit(s)
	s.do(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, unsafe.Pointer(&f.memory.oldMask), 0, 8)
	s.do(unix.SYS_EXECVE, "/proc/self/exe", s.strings(argv), s.strings(append([]string{insideEnv + "=" + from}, os.Environ()...)))
	return nil
}

// mapsFor are the maps that an ordinary user gets.
func mapsFor(ids IDs) (*idMaps, error) {
	switch ids {
	case AllIDs:
		return grantedMaps(os.Geteuid(), os.Getegid())
	case OwnID:
		uid, gid := os.Geteuid(), os.Getegid()
		return &idMaps{uids: fmt.Sprintf("%d %d 1\n", uid, uid), gids: fmt.Sprintf("%d %d 1\n", gid, gid), single: true}, nil
	}
	return newIDMaps()
}

// Unshared reports whether [Unshare] has started this program, and which IDs it has. The
// environment alone proves nothing, as anybody can set it.
func Unshared() (ids IDs, ok bool) {
	from := os.Getenv(insideEnv)
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil || !strings.HasPrefix(from, "mnt:[") || from == own {
		return SingleID, false
	}
	switch {
	case os.Geteuid() != 0:
		return OwnID, hasOverlayCapabilities()
	case HasAllIDs():
		return AllIDs, true
	}
	return SingleID, true
}

// HasAllIDs reports whether this process is root over more than one ID already: real
// root, or root of a user namespace with a full map.
func HasAllIDs() bool {
	maps, err := newIDMaps()
	return err == nil && !maps.single && os.Geteuid() == 0
}

// CheckAllIDs tries whether [AllIDs] can be had. Its errors are those of [Unshare].
func CheckAllIDs() error {
	if HasAllIDs() {
		return nil
	}
	f, err := newUnshared(AllIDs)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, err := f.start()
	if err == nil {
		_, err = wait(pid)
	}
	return err
}
