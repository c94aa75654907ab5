package native

import (
	"errors"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// features are what this machine allows beyond the least that the engine needs.
type features struct {
	// pidNamespace says that guests have process IDs of their own. A host that is a
	// container itself may hide parts of /proc, and then a new one cannot be mounted.
	pidNamespace bool
}

// probe tries what a session needs, in a few milliseconds: policies show in failing
// calls only, not in any setting. A [*StepError] tells which call failed.
func probe() (features, error) {
	full := features{pidNamespace: true}
	err := try(full)
	if refusesProc(err) {
		return features{}, try(features{})
	}
	return full, err
}

const stepProc = "mount /proc"

// refusesProc reports whether the kernel does not mount a /proc, because parts of the
// one that there is are hidden (mount_too_revealing in Linux's sources).
func refusesProc(err error) bool {
	var step *StepError
	return errors.As(err, &step) && step.Step == stepProc && errors.Is(step.Errno, unix.EPERM)
}

// try forks a family whose guest does nothing.
func try(f features) error {
	maps, err := newIDMaps()
	if err != nil {
		return err
	}
	family := &family{
		flags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		maps:   maps,
		memory: newChildMemory(),
	}
	s := &family.setup
	s.step("make mounts private")
	s.do(unix.SYS_MOUNT, 0, "/", 0, unix.MS_REC|unix.MS_PRIVATE, 0)
	if f.pidNamespace {
		family.flags |= unix.CLONE_NEWPID
		s.step(stepProc)
		s.do(unix.SYS_MOUNT, "proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, 0)
	}
	s.step("copy mounts (Linux 5.2)")
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	copied := s.do(unix.SYS_OPEN_TREE, atCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	s.step("make mounts read-only (Linux 5.12)")
	s.do(unix.SYS_MOUNT_SETATTR, copied, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, unsafe.Pointer(attr), unsafe.Sizeof(*attr))
	s.step("mount a tmpfs")
	s.do(unix.SYS_MOUNT, "tmpfs", "/", "tmpfs", unix.MS_NOSUID, 0)
	guestProcess{emulation: emulation{fakeRoot: true}}.install(&family.guest)
	family.rest.step("close files")
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, err := family.start()
	if err != nil {
		return err
	}
	_, err = wait(pid)
	return err
}
