package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/internal/flock"
	"proot-distro/internal/platform"
	"proot-distro/internal/rootfs"
)

// maxSession limits the size of a session's file, in bytes: a command line of
// Linux's largest size fits.
const maxSession = 16 << 20

// Session is a running login or run.
type Session struct {
	PID       int           `json:"pid"`
	Container string        `json:"container"`
	Command   []string      `json:"command"`
	Engine    string        `json:"engine"`
	Arch      platform.Arch `json:"arch"`
	User      string        `json:"user"`
	Detached  bool          `json:"detached"`
	Started   time.Time     `json:"started"`
	// Setup is how the guest was set up, for those who join it. It is the business of the
	// caller, and so is who may have written it.
	Setup json.RawMessage `json:"setup,omitempty"`
}

// What follows the process ID in sessions/: a session, and one being registered.
const (
	sessionSuffix = ".json"
	newSuffix     = ".new"
)

// Register writes sessions/<pid>.json and returns the flocked file. The session
// counts as alive until every copy of that file is closed: the engine keeps it open
// in the guest's processes, background ones included.
func (s *Store) Register(sess Session) (*os.File, error) {
	t, err := s.make()
	if err != nil {
		return nil, fmt.Errorf("register session: %w", err)
	}
	defer t.Close()
	f, err := t.register(sess)
	if err != nil {
		return nil, fmt.Errorf("register session: %w", err)
	}
	return f, nil
}

func (t *state) register(sess Session) (*os.File, error) {
	data, err := json.Marshal(sess)
	if err != nil {
		return nil, err
	}
	if err := t.MkdirAll(t.sessions(), 0o755); err != nil {
		return nil, err
	}
	dir, err := t.OpenDir(t.sessions())
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	// Locked before it has its name: nobody shall find it and think it dead.
	name := strconv.Itoa(sess.PID) + sessionSuffix
	temp := strconv.Itoa(sess.PID) + newSuffix
	if err := dir.RemoveAll(temp, rootfs.RemoveOptions{}); err != nil {
		return nil, err
	}
	f, err := dir.Create(temp, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = flock.Try(f, unix.LOCK_EX)
	if err == nil {
		_, err = f.Write(append(data, '\n'))
	}
	if err == nil {
		err = dir.Rename(temp, dir, name)
	}
	if err != nil {
		f.Close()
		_ = dir.Remove(temp) // the first error tells what is wrong
		return nil, err
	}
	return f, nil
}

// Unregister deletes the file of the session of process pid, once the caller has closed it, unless one of its guests
// still has it. Otherwise it would stay until somebody lists sessions.
func (s *Store) Unregister(pid int) error {
	t, err := s.open()
	if err != nil {
		return fmt.Errorf("unregister session: %w", err)
	}
	defer t.Close()
	dir, err := t.OpenDir(t.sessions())
	if err != nil {
		return fmt.Errorf("unregister session: %w", err)
	}
	defer dir.Close()
	_, _ = readSession(dir, strconv.Itoa(pid)+sessionSuffix) // deletes a dead one
	return nil
}

// Sessions lists the sessions that are alive, by process ID, and deletes the
// files of dead ones. Files that no session of ours can have written are
// passed over.
func (s *Store) Sessions() ([]Session, error) {
	t, err := s.open()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	defer t.Close()
	dir, err := t.OpenDir(t.sessions())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	defer dir.Close()
	entries, err := dir.ReadDir()
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	var alive []Session
	for _, e := range entries {
		if sess, ok := readSession(dir, e.Name); ok {
			alive = append(alive, sess)
		}
	}
	slices.SortFunc(alive, func(a, b Session) int { return a.PID - b.PID })
	return alive, nil
}

// readSession reads one file of sessions/; ok is false for a dead session, whose
// file is deleted, and for a file that is none of ours.
func readSession(dir *rootfs.Dir, name string) (sess Session, ok bool) {
	number, suffix, _ := strings.Cut(name, ".")
	pid, err := strconv.Atoi(number)
	if err != nil || pid <= 0 {
		return Session{}, false
	}
	if "."+suffix == newSuffix && !flock.Alive(pid) {
		_ = dir.Remove(name) // killed while it registered
	}
	if "."+suffix != sessionSuffix {
		return Session{}, false
	}
	f, err := dir.Open(name)
	if err != nil {
		return Session{}, false
	}
	defer f.Close()
	// Shared, so that two who look at a dead session at once both see it dead.
	if dead, err := flock.Try(f, unix.LOCK_SH); err != nil || dead {
		if dead && isAt(f, dir, name) {
			_ = dir.Remove(name) // who cannot delete it will not list it either
		}
		return Session{}, false
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSession+1))
	if err != nil || len(data) > maxSession {
		return Session{}, false
	}
	return parseSession(data, pid)
}

func parseSession(data []byte, pid int) (sess Session, ok bool) {
	if json.Unmarshal(data, &sess) != nil || sess.PID != pid || ValidateName(sess.Container) != nil {
		return Session{}, false
	}
	return sess, true
}

// isAt reports whether an open file still has its name: a new session with the
// same process ID may have taken it.
func isAt(f *os.File, dir *rootfs.Dir, name string) bool {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return false
	}
	info, err := dir.Lstat(name)
	return err == nil && info.Ino == uint64(st.Ino) && info.Dev == uint64(st.Dev)
}
