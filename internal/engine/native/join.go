package native

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
)

// A target is a running session that others join.
type target struct {
	pidfd      int  // of its supervisor
	namespaces int  // CLONE_NEW… flags of those that differ from this process's
	orphans    bool // it adopts orphans that others leave
}

// ErrNotJoinable says that a session has ended, or that it has joined another itself:
// the process IDs of its guests are not its own to give.
var ErrNotJoinable = errors.New("the session cannot be joined")

// Join prepares a command that runs beside the guests of a session, in their
// namespaces. Of the Spec only the command, its environment, its user and its work
// directory matter: mounts and names are those of the session. A program without a slash
// is looked for in PATH, by the guest's rules. The session is named by the process
// ID that it is registered with.
func Join(session int, s engine.Spec) (engine.Process, error) {
	children, err := startedFamilies(session)
	if err != nil {
		return nil, err
	}
	for _, supervisor := range children[session] {
		if len(children[supervisor]) == 0 {
			continue // its namespaces are not complete, or not needed any more
		}
		t, err := openTarget(supervisor)
		if err != nil {
			continue // a helper of a session that begins or ends
		}
		maps, err := mapsOf(supervisor)
		if err != nil {
			unix.Close(t.pidfd)
			return nil, err
		}
		return &Process{spec: s, maps: maps, features: features{pidNamespace: t.orphans}, target: t}, nil
	}
	return nil, ErrNotJoinable
}

// startedFamilies is [families], after a while if the session is about to start: its
// supervisor forks the first guest when everything is in its place. Before that, who joined
// would see the host.
func startedFamilies(session int) (children map[int][]int, err error) {
	for wait := time.Millisecond; ; wait *= 2 {
		if children, err = families(); err != nil || wait > maxStart {
			return children, err
		}
		for _, supervisor := range children[session] {
			if len(children[supervisor]) > 0 {
				return children, nil
			}
		}
		if unix.Kill(session, 0) != nil {
			return children, nil
		}
		time.Sleep(wait)
	}
}

// maxStart bounds the last wait of those that double; together they take twice as long.
const maxStart = time.Second

// openTarget looks at the namespaces of a supervisor.
func openTarget(supervisor int) (*target, error) {
	pidfd, err := unix.PidfdOpen(supervisor, 0)
	if err != nil {
		return nil, fmt.Errorf("open session: %w", err)
	}
	t := &target{pidfd: pidfd}
	for name, flag := range map[string]int{
		"user": unix.CLONE_NEWUSER, "mnt": unix.CLONE_NEWNS, "pid": unix.CLONE_NEWPID,
		"uts": unix.CLONE_NEWUTS, "ipc": unix.CLONE_NEWIPC, "net": unix.CLONE_NEWNET,
	} {
		own, err1 := os.Readlink("/proc/self/ns/" + name)
		other, err2 := os.Readlink(procPath(supervisor, "ns/"+name))
		if err := errors.Join(err1, err2); err != nil {
			unix.Close(pidfd)
			return nil, fmt.Errorf("open session: %w", err)
		}
		if own != other {
			t.namespaces |= flag
		}
	}
	t.orphans = t.namespaces&unix.CLONE_NEWPID != 0
	inside, err := os.Readlink(procPath(supervisor, "ns/pid_for_children"))
	own, err2 := os.Readlink(procPath(supervisor, "ns/pid"))
	// Who has joined is in one pid namespace and has children in another.
	if t.namespaces&unix.CLONE_NEWUSER == 0 || err != nil || err2 != nil || inside != own {
		unix.Close(pidfd)
		return nil, ErrNotJoinable
	}
	return t, nil
}

// planJoin has the supervisor enter the namespaces of the target. It stays outside the pid
// namespace, out of sight of the guests there, and so does here what its child could not do unseen.
func (t *target) planJoin(s *plan, g guestProcess) {
	s.step("join the session")
	self := ownProc(s)
	s.do(unix.SYS_SETNS, t.pidfd, t.namespaces)
	if !t.orphans {
		s.do(unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	}
	if g.nests() {
		becomeOther(s, self, g.spec.User.UID, g.spec.User.GID)
	}
	hideMemory(s)
}
