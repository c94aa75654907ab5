package native

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// idMaps are the user and group IDs of a new user namespace, as user_namespaces(7)
// has them in uid_map and gid_map.
type idMaps struct {
	uids, gids string
	// single says that only ID 0 exists: other IDs cannot be taken on, and
	// setgroups(2) is forbidden.
	single bool
	// granted says that the setuid programs newuidmap(1) and newgidmap(1) have to write
	// them.
	granted bool
}

// newIDMaps maps the calling user to root and nobody else. For real root all IDs
// stay what they are.
func newIDMaps() (*idMaps, error) {
	uid, gid := os.Geteuid(), os.Getegid()
	single := &idMaps{uids: fmt.Sprintf("0 %d 1\n", uid), gids: fmt.Sprintf("0 %d 1\n", gid), single: true}
	if uid != 0 {
		return single, nil
	}
	uids, nuids, err := identity("/proc/self/uid_map")
	if err != nil {
		return nil, err
	}
	if nuids == 1 { // root of a namespace where he is alone
		return single, nil
	}
	gids, _, err := identity("/proc/self/gid_map")
	if err != nil {
		return nil, err
	}
	return &idMaps{uids: uids, gids: gids}, nil
}

// mapsOf tells how the user namespace of a running process is mapped.
func mapsOf(pid int) (*idMaps, error) {
	_, n, err := identity(procPath(pid, "uid_map"))
	if err != nil {
		return nil, err
	}
	return &idMaps{single: n == 1}, nil
}

// identity reads a map and returns one from each ID that it has to itself, and how
// many these are.
func identity(file string) (text string, ids uint64, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", 0, fmt.Errorf("read %s: %w", file, err)
	}
	for line := range strings.Lines(string(data)) {
		var first, outer, count uint64
		if _, err := fmt.Sscan(line, &first, &outer, &count); err != nil {
			return "", 0, fmt.Errorf("read %s: strange line %q", file, line)
		}
		text += fmt.Sprintf("%d %d %d\n", first, first, count)
		ids += count
	}
	return text, ids, nil
}

// write sets the maps of a process that waits for it in a new user namespace.
func (m *idMaps) write(pid int) error {
	if m.granted {
		return m.writeGranted(pid)
	}
	for _, f := range []struct{ name, text string }{{"uid_map", m.uids}, {"gid_map", m.gids}} {
		if err := os.WriteFile(procPath(pid, f.name), []byte(f.text), 0); err != nil {
			var errno unix.Errno
			if !errors.As(err, &errno) {
				return fmt.Errorf("%s: %w", stepMaps, err)
			}
			return &StepError{Step: stepMaps, Errno: errno}
		}
	}
	return nil
}

// plan sets the maps of the process that runs it, in a new user namespace: for single ones.
func (m *idMaps) plan() plan {
	var p plan
	p.step(stepMaps)
	m.planIn(&p, ownProc(&p))
	return p
}

// stepMaps is the mapping of user IDs.
const stepMaps = "map user IDs"

// planIn sets single maps of the process whose directory in /proc is open. Without privileges, groups can be
// mapped only where none can be dropped.
func (m *idMaps) planIn(p *plan, proc *call) {
	for _, f := range []struct{ name, text string }{{"uid_map", m.uids}, {"setgroups", "deny"}, {"gid_map", m.gids}} {
		p.write(p.do(unix.SYS_OPENAT, proc, f.name, unix.O_WRONLY|unix.O_CLOEXEC, 0), f.text)
	}
}

// becomeOther makes a process the user uid of group gid where root is alone: in a user namespace
// inside, in which root is called by other numbers. self is the process's directory in /proc, open.
//
// The guest's root rules over that namespace: where he runs already, this is for a process
// that he does not see, and its children need [hideMemory].
func becomeOther(p *plan, self *call, uid, gid int) {
	p.step("become user %d, group %d", uid, gid)
	p.do(unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
	(&idMaps{uids: strconv.Itoa(uid) + " 0 1\n", gids: strconv.Itoa(gid) + " 0 1\n"}).planIn(p, self)
}

// ownProc opens the directory of a process in /proc for itself.
func ownProc(p *plan) *call {
	return p.do(unix.SYS_OPENAT, atCWD, "/proc/self", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// hideMemory keeps guests away from the memory and the files of a process until it executes a
// program, whatever they may do in its user namespace.
func hideMemory(p *plan) { p.do(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0) }
