// Package flock takes flock(2) locks on open files without waiting, and finds out who holds
// one that is taken.
//
// The lock belongs to the open file: every process that has inherited it holds it, and
// closing the last copy releases it. Who holds one leaves "<pid> <command>" in the file for others
// to report, as the Python program does.
package flock

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Holder is who holds a lock.
type Holder struct {
	PID     int    // 0 when unknown
	Command string // "login"; empty when unknown
	Gone    bool   // the process PID has ended, its children hold the lock
}

// String names the holder in the middle of a sentence: "login (PID 7)".
func (h Holder) String() string {
	command := h.Command
	if command == "" {
		command = "another process"
	}
	switch {
	case h.PID == 0:
		return command
	case h.Gone:
		return fmt.Sprintf("background processes of %s (PID %d, which has ended)", command, h.PID)
	}
	return fmt.Sprintf("%s (PID %d)", command, h.PID)
}

// Try takes a lock, unix.LOCK_SH or LOCK_EX, and reports whether it was obtained.
func Try(f *os.File, how int) (bool, error) {
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

// Sign leaves "<pid> <command>" for others to report. Of several
// holders of a shared lock the last one is named. It is a hint, and so nothing
// fails with it: on a full disk a container can still be removed.
func Sign(f *os.File, command string) {
	text := fmt.Sprintf("%d %s", os.Getpid(), command)
	if _, err := f.WriteAt([]byte(text), 0); err == nil {
		_ = f.Truncate(int64(len(text)))
	}
}

// maxHolder limits what is read of a lock file, in bytes.
const maxHolder = 64

// A guest on Termux can write the content: only what is safe to show is taken
// from it.
var holderPattern = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([1-9][0-9]{0,8}) ([A-Za-z0-9][A-Za-z0-9 _-]*)\s*$`)
})

func parseHolder(content []byte) (pid int, command string) {
	m := holderPattern().FindSubmatch(content)
	if m == nil {
		return 0, ""
	}
	pid, _ = strconv.Atoi(string(m[1])) // nine digits at most
	return pid, string(bytes.TrimSpace(m[2]))
}

// Find finds out who holds the lock of a file. Its content is a hint only: of several
// holders it names the last to come, who may have left.
func Find(f *os.File) Holder {
	buf := make([]byte, maxHolder)
	n, _ := f.ReadAt(buf, 0) // io.EOF for a short file, which it should be
	pid, command := parseHolder(buf[:n])
	holders := slices.DeleteFunc(kernelHolders(f), func(p int) bool { return !Alive(p) })
	if len(holders) > 0 && !slices.Contains(holders, pid) {
		return Holder{PID: holders[0], Command: programName(holders[0])}
	}
	return Holder{PID: pid, Command: command, Gone: pid != 0 && !Alive(pid)}
}

// Alive reports whether there is a process with this ID.
func Alive(pid int) bool {
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

var programPattern = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.+-]*$`)
})

// programName is the short name of a running program, as ps shows it.
func programName(pid int) string {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
	name := strings.TrimSpace(string(data))
	if err != nil || !programPattern().MatchString(name) {
		return ""
	}
	return name
}
