package proot

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ErrNested says that this program itself runs under proot.
var ErrNested = errors.New("already inside a proot container, and proot cannot trace what is traced already: " +
	"run this command on the host")

// TracedByProot reports whether proot traces this process, directly or through
// one other tracer.
func TracedByProot() bool {
	status, err := readStatus("self")
	for hop := 0; err == nil && hop < 2; hop++ {
		tracer := status.tracer
		if tracer == 0 {
			return false
		}
		pid := strconv.Itoa(tracer)
		exe, _ := os.Readlink(filepath.Join("/proc", pid, "exe")) // refused for another user's process
		status, err = readStatus(pid)
		if strings.HasPrefix(filepath.Base(exe), "proot") || strings.HasPrefix(status.name, "proot") {
			return true
		}
	}
	return false
}

// tracees lists the processes that pid, a proot, traces: all of a session's
// guests, in ascending order, without zombies and without further threads.
func tracees(pid int) ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		status, err := readStatus(e.Name())
		if err == nil && status.tracer == pid && !status.dead {
			pids = append(pids, n)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// A procStatus holds what is needed of proc_pid_status(5).
type procStatus struct {
	name   string
	tracer int
	dead   bool
}

func readStatus(pid string) (procStatus, error) {
	f, err := os.Open(filepath.Join("/proc", pid, "status"))
	if err != nil {
		return procStatus{}, err
	}
	defer f.Close()
	var s procStatus
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		key, value, _ := strings.Cut(sc.Text(), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "Name":
			s.name = value
		case "State":
			s.dead = strings.HasPrefix(value, "Z") || strings.HasPrefix(value, "X")
		case "TracerPid":
			s.tracer, err = strconv.Atoi(value)
			return s, err
		}
	}
	return s, sc.Err()
}
