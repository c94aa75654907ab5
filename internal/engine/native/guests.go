package native

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// Guests lists the processes of a session's guests in ascending order: all that
// descend from the supervisor, which is the child of the process that the session
// is registered with. Guests cannot leave, as their pid namespace gives orphans to the
// supervisor.
func Guests(session int) ([]int, error) {
	children, err := families()
	if err != nil {
		return nil, err
	}
	var guests []int
	next := slices.Clone(children[session])
	for len(next) > 0 {
		parents := next
		next = nil
		for _, pid := range parents {
			next = append(next, children[pid]...)
		}
		guests = append(guests, next...)
	}
	slices.Sort(guests)
	return guests, nil
}

// families maps every process to its children, without those that have ended.
func families() (map[int][]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	children := map[int][]int{}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		data, err := os.ReadFile(filepath.Join("/proc", name, "stat"))
		if err != nil {
			continue // it has ended
		}
		if parent, ok := parentOf(data); ok {
			children[parent] = append(children[parent], pid)
		}
	}
	return children, nil
}

// parentOf reads proc_pid_stat(5): "12 (a name) S 1 …", where the name may hold
// anything, parentheses too. ok is false for a process that has ended.
func parentOf(stat []byte) (pid int, ok bool) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 || string(fields[0]) == "Z" || string(fields[0]) == "X" {
		return 0, false
	}
	pid, err := strconv.Atoi(string(fields[1]))
	return pid, err == nil
}
