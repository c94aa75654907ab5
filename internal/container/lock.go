package container

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// LockMode is Shared or Exclusive.
type LockMode int

// Lock modes, as of flock(2).
const (
	// Shared is for those who use a container and leave it in place: login,
	// run, backup.
	Shared LockMode = iota
	// Exclusive is for those who make, replace or delete one.
	Exclusive
)

// BusyError says that another process holds the lock of a container.
type BusyError struct {
	Name    string
	PID     int      // 0 when unknown
	Command string   // "login"; empty when unknown
	Gone    bool     // the process PID has ended, its children hold the lock
	Mode    LockMode // what was wanted
}

func (e *BusyError) Error() string {
	command := e.Command
	if command == "" {
		command = "another process"
	}
	switch {
	case e.PID == 0:
		return fmt.Sprintf("container %q is in use by %s", e.Name, command)
	case e.Gone:
		return fmt.Sprintf("container %q is in use by background processes of %s (PID %d, which has ended)", e.Name, command, e.PID)
	}
	return fmt.Sprintf("container %q is in use by %s (PID %d)", e.Name, command, e.PID)
}

func (t *state) lockName(name string) string { return path.Join(t.locks(), name+".lock") }

// lock takes the lock of a name without waiting, or fails with a [BusyError]. Closing
// every copy of the file releases it.
func (t *state) lock(name string, mode LockMode, command string) (*os.File, error) {
	f, err := t.openLock(name)
	if err != nil {
		return nil, t.failed("lock", name, err)
	}
	how := unix.LOCK_SH
	if mode == Exclusive {
		how = unix.LOCK_EX
	}
	held, err := tryFlock(f, how)
	if err != nil {
		f.Close()
		return nil, t.failed("lock", name, err)
	}
	if !held {
		busy := &BusyError{Name: name, Mode: mode}
		busy.PID, busy.Command, busy.Gone = holder(f)
		f.Close()
		return nil, busy
	}
	writeHolder(f, command)
	return f, nil
}

func (t *state) openLock(name string) (*os.File, error) {
	if err := t.MkdirAll(t.locks(), 0o755); err != nil {
		return nil, err
	}
	dir, base, err := t.Parent(t.lockName(name))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.OpenFile(base, os.O_RDWR|os.O_CREATE, 0o600)
}

// tryFlock reports whether the lock was obtained.
func tryFlock(f *os.File, how int) (bool, error) {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		default:
			return false, &fs.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
	}
}

// writeHolder leaves "<pid> <command>" for others to report. Of several
// holders of a shared lock the last one is named. It is a hint, and so nothing
// fails with it: on a full disk a container can still be removed.
func writeHolder(f *os.File, command string) {
	text := fmt.Sprintf("%d %s", os.Getpid(), command)
	if _, err := f.WriteAt([]byte(text), 0); err == nil {
		_ = f.Truncate(int64(len(text)))
	}
}

// maxHolder limits what is read of a lock file, in bytes.
const maxHolder = 64

// A guest on Termux can write the content: only what is safe to show is taken
// from it.
var holderPattern = regexp.MustCompile(`^([1-9][0-9]{0,8}) ([A-Za-z0-9][A-Za-z0-9 _-]*)\s*$`)

func parseHolder(content []byte) (pid int, command string) {
	m := holderPattern.FindSubmatch(content)
	if m == nil {
		return 0, ""
	}
	pid, _ = strconv.Atoi(string(m[1])) // nine digits at most
	return pid, string(bytes.TrimSpace(m[2]))
}

// holder finds out who holds a lock. The content is a hint only: of several
// holders it names the last to come, who may have left.
func holder(f *os.File) (pid int, command string, gone bool) {
	buf := make([]byte, maxHolder)
	n, _ := f.ReadAt(buf, 0) // io.EOF for a short file, which it should be
	pid, command = parseHolder(buf[:n])
	holders := slices.DeleteFunc(kernelHolders(f), func(p int) bool { return !alive(p) })
	if len(holders) > 0 && !slices.Contains(holders, pid) {
		return holders[0], programName(holders[0]), false
	}
	return pid, command, pid != 0 && !alive(pid)
}

func alive(pid int) bool {
	return !errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}

// kernelHolders asks /proc/locks who locked this file; nothing where it can't
// be read (Android) or numbers devices differently than stat(2) does (btrfs).
func kernelHolders(f *os.File) []int {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return nil
	}
	data, err := os.ReadFile("/proc/locks")
	if err != nil {
		return nil
	}
	dev := uint64(st.Dev)
	return parseLocks(string(data), fmt.Sprintf("%02x:%02x:%d", unix.Major(dev), unix.Minor(dev), st.Ino))
}

// parseLocks reads /proc/locks (proc_locks(5)):
//
//	1: FLOCK  ADVISORY  WRITE 708 00:13:22942 0 EOF
func parseLocks(text, file string) []int {
	var pids []int
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[1] != "FLOCK" || fields[5] != file {
			continue // also "1: -> FLOCK …", one who waits
		}
		if pid, err := strconv.Atoi(fields[4]); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

var programPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.+-]*$`)

// programName is the short name of a running program, as ps shows it.
func programName(pid int) string {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
	name := strings.TrimSpace(string(data))
	if err != nil || !programPattern.MatchString(name) {
		return ""
	}
	return name
}
