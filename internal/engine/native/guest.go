package native

import (
	"os"
	"path"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
)

// keptCapabilities are the 14 that Docker gives to containers. Without
// CAP_SYS_ADMIN a guest cannot undo read-only mounts and masks.
const keptCapabilities uint64 = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FSETID | 1<<unix.CAP_FOWNER |
	1<<unix.CAP_MKNOD | 1<<unix.CAP_NET_RAW | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_SETFCAP |
	1<<unix.CAP_SETPCAP | 1<<unix.CAP_NET_BIND_SERVICE | 1<<unix.CAP_SYS_CHROOT | 1<<unix.CAP_KILL | 1<<unix.CAP_AUDIT_WRITE

// maxCapability is the highest number that capabilities(7) have room for.
const maxCapability = 63

// A guestProcess is what becomes of the forked process that is to be the guest's.
type guestProcess struct {
	spec   engine.Spec
	single bool // the user namespace has root only
	emulation
	descriptors
	umask *call // nil, or the call that returned the caller's umask
	joins bool  // it comes to guests that run already, see [target.planJoin]
}

// other reports whether the guest's user is not root.
func (g guestProcess) other() bool { return g.spec.User.UID != 0 || g.spec.User.GID != 0 }

// nests reports whether the guest's user is one that only a user namespace inside can have.
func (g guestProcess) nests() bool { return g.single && g.other() }

// plan makes it the user of the spec, cuts its powers and executes the program. The
// order matters: dropping capabilities from the bounding set and installing a filter
// both need capabilities, which the filter or execve(2) then take away.
func (g guestProcess) plan() plan {
	var p plan
	p.step("start the guest's process")
	p.do(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL))
	if g.umask != nil {
		p.do(unix.SYS_UMASK, g.umask)
	}
	for i, fd := range g.stdio {
		if fd >= 0 {
			p.do(unix.SYS_DUP3, fd, i, 0)
		}
	}
	restoreFileLimit(&p)
	p.attempt(0, unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0)
	if g.spec.Arch != g.spec.HostArch && g.spec.HostArch.Runs(g.spec.Arch) {
		p.attempt(0, unix.SYS_PERSONALITY, perLinux32) // uname -m speaks of a 32-bit machine
	}
	user := g.spec.User
	if !g.single {
		p.step("leave all groups")
		leaveGroups(&p)
	} else if g.nests() && !g.joins {
		becomeOther(&p, ownProc(&p), user.UID, user.GID)
	}
	hideMemory(&p)
	p.step("restrict capabilities")
	for c := range maxCapability + 1 {
		if keptCapabilities&(1<<c) == 0 {
			p.attempt(0, unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c)
		}
	}
	p.attempt(0, unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL)
	g.install(&p)
	switch {
	case g.spec.AllIDs:
		g.givePipes(&p)
		becomeReal(&p, user, 0)
	case g.other() && !g.single:
		becomeReal(&p, user, ownersPower)
	}
	p.step("enter the work directory %s", g.spec.WorkDir)
	p.do(unix.SYS_CHDIR, g.spec.WorkDir)
	p.step("close files")
	p.do(unix.SYS_CLOSE_RANGE, 3, int(^uint32(0)>>1), unix.CLOSE_RANGE_CLOEXEC)
	p.step("start the launcher")
	p.report = p.do(unix.SYS_DUP3, -1, reportedBy, 0)
	argv := slices.Concat(g.programs(), []string{""}, g.spec.Argv)
	p.do(unix.SYS_EXECVEAT, g.launcher, "", p.strings(argv), p.strings(g.spec.Env), unix.AT_EMPTY_PATH)
	p.step("run %s", g.spec.Argv[0]) // by the launcher
	return p
}

// programs are the files of which the first that can be is executed. A name without a
// slash is looked for in PATH.
func (g guestProcess) programs() []string {
	name := g.spec.Argv[0]
	if strings.Contains(name, "/") {
		return []string{name}
	}
	var files []string
	for _, entry := range g.spec.Env {
		if list, ok := strings.CutPrefix(entry, "PATH="); ok {
			for dir := range strings.SplitSeq(list, ":") {
				files = append(files, path.Join(dir, name))
			}
		}
	}
	return append(files, path.Join("/", name))
}

// install adds the seccomp filter, and the sending of its listener.
func (g guestProcess) install(p *plan) {
	p.step("install the seccomp filter")
	filter := g.filter()
	program := &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	flags := 0
	if g.notifies() {
		flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	}
	listener := p.do(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, unsafe.Pointer(program))
	if !g.notifies() {
		return
	}
	// struct msghdr with SCM_RIGHTS: the kernel gives the listener to us alone.
	rights := &struct {
		header unix.Cmsghdr
		fd     int32
	}{fd: -1}
	rights.header.Level, rights.header.Type = unix.SOL_SOCKET, unix.SCM_RIGHTS
	rights.header.SetLen(unix.CmsgLen(4))
	listener.copyTo = &rights.fd
	text := new(byte)
	vector := &unix.Iovec{Base: text}
	vector.SetLen(1)
	message := &unix.Msghdr{Iov: vector, Control: (*byte)(unsafe.Pointer(rights))}
	message.SetIovlen(1)
	message.SetControllen(unix.CmsgLen(4))
	p.do(unix.SYS_SENDMSG, g.channel, unsafe.Pointer(message), 0)
}

// ownersPower is what the user of a container needs whose files are root's, whoever the image
// meant them for, or the users' to whom root has given them: to be taken for the owner of all.
const ownersPower uint64 = 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID

// becomeReal takes on IDs that exist, which costs all capabilities but those in kept.
func becomeReal(p *plan, user engine.User, kept uint64) {
	p.step("become user %d, group %d", user.UID, user.GID)
	groups := make([]uint32, len(user.Groups)+1)
	for i, group := range user.Groups {
		groups[i] = uint32(group)
	}
	p.do(sysSetgroups, len(user.Groups), unsafe.Pointer(&groups[0]))
	p.do(sysSetresgid, user.GID, user.GID, user.GID)
	if kept != 0 {
		p.do(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0, 0, 0)
	}
	p.do(sysSetresuid, user.UID, user.UID, user.UID)
	if kept != 0 {
		keepAcrossExec(p, kept)
	}
	p.do(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL)) // the kernel has forgotten it
}

// keepAcrossExec gives up all capabilities but those in kept, which programs inherit.
func keepAcrossExec(p *plan, kept uint64) {
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	low, high := uint32(kept), uint32(kept>>32)
	sets := &[2]unix.CapUserData{
		{Effective: low, Permitted: low, Inheritable: low}, {Effective: high, Permitted: high, Inheritable: high},
	}
	p.do(unix.SYS_CAPSET, unsafe.Pointer(header), unsafe.Pointer(sets))
	for c := range maxCapability + 1 {
		if kept&(1<<c) != 0 {
			p.do(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, c, 0, 0)
		}
	}
}

// givePipes lets the user open what its standard streams are, as /dev/stdout, where that is a pipe of ours.
func (g guestProcess) givePipes(p *plan) {
	for fd, from := range g.stdio {
		var st unix.Stat_t
		if from >= 0 && unix.Fstat(from, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO {
			p.attempt(0, unix.SYS_FCHOWNAT, fd, "", g.spec.User.UID, g.spec.User.GID, unix.AT_EMPTY_PATH)
		}
	}
}

// leaveGroups forgets the supplementary groups that real root has on the host.
func leaveGroups(p *plan) {
	none := new(uint32)
	p.do(sysSetgroups, 0, unsafe.Pointer(none))
}

// perLinux32 is PER_LINUX32 of personality(2).
const perLinux32 = 0x0008

// restoreFileLimit undoes what Go's runtime does to every program: it raises the
// soft limit of open files, which makes programs slow that close all possible
// files, and breaks those that use select(2).
func restoreFileLimit(p *plan) {
	if limit := inheritedFileLimit(); limit != nil {
		p.attempt(0, unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, unsafe.Pointer(limit), 0)
	}
}

// inheritedFileLimit is the limit of open files that this process was given: what its
// parent has.
func inheritedFileLimit() *unix.Rlimit {
	var own, parent unix.Rlimit
	if unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &own) != nil {
		return nil
	}
	if err := unix.Prlimit(os.Getppid(), unix.RLIMIT_NOFILE, nil, &parent); err != nil || parent.Cur > own.Max {
		const usual = 1024
		parent.Cur = min(usual, own.Max)
	}
	return &unix.Rlimit{Cur: parent.Cur, Max: own.Max}
}
