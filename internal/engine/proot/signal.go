package proot

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
)

// Signal signals what the proot of a session traces, since proot itself ignores most
// signals, and counts the processes. The session's process is proot, or proot's parent when it waits for the
// guest's exit code; when that parent was killed, proot is found by the session's file. After
// a SIGKILL proot is killed too: with its last tracee gone it would end by itself, but
// new ones may be born meanwhile.
func Signal(session int, file string, sig unix.Signal) (reached int, err error) {
	tracers := append(childrenOf(session), session)
	if unix.Kill(session, 0) != nil {
		tracers = holdersOf(file)
	}
	for _, tracer := range tracers {
		guests, err := tracees(tracer)
		if err != nil {
			return reached, err
		}
		n, err := engine.SignalAll(guests, sig)
		reached += n
		if err != nil {
			return reached, err
		}
		if len(guests) > 0 && sig == unix.SIGKILL {
			_ = unix.Kill(tracer, sig) // it may have ended with its last tracee
		}
	}
	return reached, nil
}

// holdersOf lists the processes that have a file open, as far as we may see that.
func holdersOf(file string) (holders []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*/fd") // the pattern is sound
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		fds, _ := os.ReadDir(dir) // it has ended, or is not ours
		if err == nil && slices.ContainsFunc(fds, func(fd os.DirEntry) bool {
			target, err := os.Readlink(filepath.Join(dir, fd.Name()))
			return err == nil && target == file
		}) {
			holders = append(holders, pid)
		}
	}
	return holders
}

// childrenOf lists the processes whose parent is pid (proc_pid_stat(5)).
func childrenOf(pid int) (children []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is sound
	for _, stat := range stats {
		data, err := os.ReadFile(stat)
		if err != nil {
			continue // it has ended
		}
		// "12 (a name) S 1 …": the name may hold anything, parentheses too.
		fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
		if len(fields) < 2 || fields[1] != strconv.Itoa(pid) {
			continue
		}
		if child, err := strconv.Atoi(filepath.Base(filepath.Dir(stat))); err == nil {
			children = append(children, child)
		}
	}
	return children
}
