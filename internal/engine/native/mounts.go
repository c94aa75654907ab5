package native

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
)

// atCWD is AT_FDCWD as an argument of a system call.
const atCWD = ^uintptr(99)

// A tree is a plan that builds the guest's mounts below root, in a mount namespace
// of its own. The guest's paths are resolved by the kernel as the guest would
// (RESOLVE_IN_ROOT), so links in the rootfs lead nowhere else.
type tree struct {
	*plan
	root *call // the open root
}

// newTree makes mounts private and a mount of the rootfs, which brings what is
// mounted below it along: a locked mount cannot be left behind.
func newTree(p *plan, rootfs string) *tree {
	p.step("make mounts private")
	p.do(unix.SYS_MOUNT, 0, "/", 0, unix.MS_REC|unix.MS_PRIVATE, 0)
	p.step("mount the root filesystem %s", rootfs)
	t := &tree{plan: p}
	t.root = t.clone(rootfs, true)
	p.do(unix.SYS_MOVE_MOUNT, t.root, "", atCWD, rootfs, unix.MOVE_MOUNT_F_EMPTY_PATH)
	t.setAttributes(t.root, unix.MOUNT_ATTR_NODEV, 0)
	return t
}

// clone opens a copy of the mount at a host path.
func (t *tree) clone(hostPath string, recursive bool) *call {
	flags := unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	return t.do(unix.SYS_OPEN_TREE, atCWD, hostPath, flags)
}

// cloneOf is clone of an open file.
func (t *tree) cloneOf(file *call, flags int) *call {
	return t.do(unix.SYS_OPEN_TREE, file, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|flags)
}

// setAttributes adds MOUNT_ATTR_ attributes to a mount; flags may be AT_RECURSIVE.
func (t *tree) setAttributes(mount *call, attributes uint64, flags int) {
	attr := &unix.MountAttr{Attr_set: attributes}
	t.do(unix.SYS_MOUNT_SETATTR, mount, "", unix.AT_EMPTY_PATH|flags, unsafe.Pointer(attr), unsafe.Sizeof(*attr))
}

// how is struct open_how for a guest path.
func (t *tree) how(flags int) (unsafe.Pointer, uintptr) {
	how := &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT}
	return unsafe.Pointer(how), unsafe.Sizeof(*how)
}

// open opens a guest path.
func (t *tree) open(guestPath string, flags int) *call {
	how, size := t.how(flags)
	return t.do(unix.SYS_OPENAT2, t.root, "./"+guestPath, how, size)
}

// put mounts an open mount at a guest path, which is made when it is missing.
func (t *tree) put(mount *call, guestPath string, dir bool) {
	t.make(guestPath, dir)
	target := t.open(guestPath, unix.O_PATH)
	t.do(unix.SYS_MOVE_MOUNT, mount, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	t.do(unix.SYS_CLOSE, target)
	t.do(unix.SYS_CLOSE, mount)
}

// make makes a missing mount point with the directories on the way to it. That
// something cannot be made is seen when it is opened.
func (t *tree) make(guestPath string, dir bool) {
	components := strings.Split(strings.Trim(guestPath, "/"), "/")
	how, size := t.how(unix.O_PATH)
	for i, name := range components {
		parent := t.attempt(2, unix.SYS_OPENAT2, t.root, "./"+path.Join(components[:i]...), how, size)
		if i < len(components)-1 || dir {
			t.attempt(0, unix.SYS_MKDIRAT, parent, name, 0o755)
		} else {
			t.attempt(0, unix.SYS_MKNODAT, parent, name, unix.S_IFREG|0o644, 0)
		}
		t.do(unix.SYS_CLOSE, parent)
	}
}

// filesystem mounts a new filesystem at a guest path.
func (t *tree) filesystem(kind, guestPath string, flags int, data string) {
	t.make(guestPath, true)
	target := t.open(guestPath, unix.O_PATH|unix.O_DIRECTORY)
	t.do(unix.SYS_FCHDIR, target)
	t.do(unix.SYS_MOUNT, kind, ".", kind, flags, data)
	t.do(unix.SYS_CLOSE, target)
}

// proc mounts /proc: the pid namespace's own, or else the host's.
func (t *tree) proc(f features) {
	t.step(stepProc)
	if f.pidNamespace {
		t.filesystem("proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	} else {
		t.put(t.clone("/proc", true), "proc", true)
	}
}

// mask makes the files of /proc by which real root rules the machine read-only, and
// hides what shows its secrets. Nobody else in a user namespace owns them.
func (t *tree) mask() {
	t.step("protect /proc and /sys")
	for _, name := range []string{"acpi", "asound", "bus", "dynamic_debug", "fs", "irq", "mtrr", "scsi", "sys", "sysrq-trigger"} {
		t.ifPossible(func() {
			target := t.open("proc/"+name, unix.O_PATH)
			t.cover(target, t.cloneOf(target, unix.AT_RECURSIVE), unix.MOUNT_ATTR_RDONLY)
		})
	}
	for _, name := range []string{"kcore", "keys", "latency_stats", "sched_debug", "timer_list"} {
		t.ifPossible(func() {
			target := t.open("proc/"+name, unix.O_PATH)
			t.cover(target, t.clone("/dev/null", false), 0)
		})
	}
	for _, name := range []string{"firmware", "kernel/debug", "kernel/tracing", "devices/virtual/powercap"} {
		t.ifPossible(func() {
			target := t.open("sys/"+name, unix.O_PATH|unix.O_DIRECTORY)
			t.attempt(1, unix.SYS_FCHDIR, target) // closed to root of a namespace, it needs no cover
			t.do(unix.SYS_MOUNT, "tmpfs", ".", "tmpfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=4k")
			t.do(unix.SYS_CLOSE, target)
		})
	}
}

// cover mounts an open mount over an open file, with further attributes.
func (t *tree) cover(target, mount *call, attributes uint64) {
	t.setAttributes(mount, attributes, unix.AT_RECURSIVE)
	t.do(unix.SYS_MOVE_MOUNT, mount, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	t.do(unix.SYS_CLOSE, mount)
	t.do(unix.SYS_CLOSE, target)
}

// sys shows the host's /sys, read-only.
func (t *tree) sys() {
	t.step("mount /sys read-only")
	sys := t.clone("/sys", true)
	t.setAttributes(sys, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC, unix.AT_RECURSIVE)
	t.put(sys, "sys", true)
}

// dev makes a small /dev of harmless devices. terminal is the host path of the
// caller's terminal, which the guest finds as /dev/console.
func (t *tree) dev(m *idMaps, terminal string) {
	t.step("mount /dev")
	t.filesystem("tmpfs", "dev", unix.MS_NOSUID|unix.MS_STRICTATIME, "mode=0755")
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		device := t.clone("/dev/"+name, false)
		t.setAttributes(device, unix.MOUNT_ATTR_RDONLY, 0) // the host's mode and owner; the device can be written to
		t.put(device, "dev/"+name, false)
	}
	dev := t.open("dev", unix.O_PATH|unix.O_DIRECTORY)
	for name, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx",
	} {
		t.do(unix.SYS_SYMLINKAT, target, dev, name)
	}
	t.do(unix.SYS_CLOSE, dev)
	options := "newinstance,ptmxmode=0666,mode=0620"
	if !m.single {
		options += ",gid=5"
	}
	t.step("mount /dev/pts")
	t.filesystem("devpts", "dev/pts", unix.MS_NOSUID|unix.MS_NOEXEC, options)
	t.step("mount /dev/shm")
	t.filesystem("tmpfs", "dev/shm", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777")
	if terminal != "" {
		t.step("show the terminal as /dev/console")
		t.put(t.clone(terminal, false), "dev/console", false)
	}
}

// bind shows a host path in the guest.
func (t *tree) bind(b engine.Bind, source fs.FileInfo) {
	t.step("bind %s at %s", b.Source, b.Target)
	mount := t.clone(b.Source, true)
	if b.ReadOnly {
		t.setAttributes(mount, unix.MOUNT_ATTR_RDONLY, unix.AT_RECURSIVE)
	}
	t.put(mount, b.Target, source.IsDir())
}

// file shows a text of ours at a guest path whose directory exists. The text lives
// in a temporary filesystem that is attached nowhere.
func (t *tree) file(guestPath, text string) {
	t.step("write %s", guestPath)
	const hidden = "dev/.new"
	t.make(hidden, false)
	t.write(t.open(hidden, unix.O_WRONLY), text)
	source := t.open(hidden, unix.O_PATH)
	mount := t.cloneOf(source, 0)
	t.setAttributes(mount, unix.MOUNT_ATTR_RDONLY, 0)
	t.put(mount, guestPath, false)
	t.do(unix.SYS_CLOSE, source)
	dev := t.open("dev", unix.O_PATH|unix.O_DIRECTORY)
	t.do(unix.SYS_UNLINKAT, dev, path.Base(hidden), 0)
	t.do(unix.SYS_CLOSE, dev)
}

// enter makes the tree the root directory and forgets the host's.
func (t *tree) enter(readOnly bool) {
	if readOnly {
		t.step("make the root filesystem read-only")
		t.setAttributes(t.root, unix.MOUNT_ATTR_RDONLY, 0)
	}
	t.step("change the root directory")
	t.do(unix.SYS_FCHDIR, t.root)
	t.do(unix.SYS_PIVOT_ROOT, ".", ".")
	t.do(unix.SYS_UMOUNT2, ".", unix.MNT_DETACH)
	t.do(unix.SYS_CHDIR, "/")
}

// tmpfs mounts an empty temporary filesystem.
func (t *tree) tmpfs(m engine.Tmpfs) {
	t.step("mount a tmpfs at %s", m.Target)
	options := fmt.Sprintf("mode=%#o", m.Mode)
	if m.Size > 0 {
		options += fmt.Sprintf(",size=%d", m.Size)
	}
	t.filesystem("tmpfs", m.Target, unix.MS_NOSUID|unix.MS_NODEV, options)
}

// loopback brings up the only device of a new network namespace.
func (t *tree) loopback() {
	t.step("bring up the loopback network")
	// struct ifreq, of which SIOCSIFFLAGS reads name and flags.
	request := new([40]byte)
	copy(request[:], "lo")
	request[unix.IFNAMSIZ] = unix.IFF_UP
	socket := t.do(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	t.do(unix.SYS_IOCTL, socket, unix.SIOCSIFFLAGS, unsafe.Pointer(request))
	t.do(unix.SYS_CLOSE, socket)
}
