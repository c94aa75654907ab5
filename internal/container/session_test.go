package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"proot-distro/internal/flock"
)

func sessions(t *testing.T, s *Store) []Session {
	t.Helper()
	got, err := s.Sessions()
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestSessionLivesAcrossExec(t *testing.T) {
	s, dirs := newStore(t)
	if got := sessions(t, s); len(got) != 0 {
		t.Errorf("a new store has %v", got)
	}
	install(t, s, "debian", "x")
	p := start(t, dirs, "session", "debian")
	want := []Session{{
		PID: p.pid, Container: "debian", Command: []string{"bash", "-l"}, Engine: "proot", Arch: "x86_64",
		User: "root", Started: time.Unix(1_700_000_000, 0).UTC(),
	}}
	for range 3 { // looking must not end it
		if diff := cmp.Diff(want, sessions(t, s)); diff != "" {
			t.Error(diff)
		}
	}
	if b := busy(t, s, Exclusive); b.PID != p.pid {
		t.Errorf("the lock is held by %+v, not %d", b, p.pid)
	}
	p.kill()
	if got := sessions(t, s); len(got) != 0 {
		t.Errorf("after its death: %v", got)
	}
	if left := tree(t, dirs.Sessions()); len(left) > 0 {
		t.Errorf("a dead session's file stays: %v", left)
	}
}

func TestSessionsAreSorted(t *testing.T) {
	s, _ := newStore(t)
	for _, pid := range []int{1000, 9, 20} {
		f, err := s.Register(Session{PID: pid, Container: "debian"})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	var pids []int
	for _, sess := range sessions(t, s) {
		pids = append(pids, sess.PID)
	}
	if diff := cmp.Diff([]int{9, 20, 1000}, pids); diff != "" {
		t.Error(diff)
	}
}

func TestSweepDeletesDeadSessions(t *testing.T) {
	s, dirs := newStore(t)
	f, err := s.Register(Session{PID: 8, Container: "debian"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	plant(t, dirs.Sessions(), map[string]string{"7.json": "{}", "9.json": `{"pid":9}`})
	if err := s.Sweep(); err != nil {
		t.Error(err)
	}
	if left := tree(t, dirs.Sessions()); len(left) != 1 {
		t.Errorf("left: %v, want 8.json alone", left)
	}
}

// A process ID comes again: the dead session's file gives way.
func TestRegisterOverDeadSession(t *testing.T) {
	s, dirs := newStore(t)
	secret := filepath.Join(t.TempDir(), "secret")
	plant(t, filepath.Dir(secret), map[string]string{"secret": "keep me"})
	plant(t, dirs.Sessions(), map[string]string{"7.new/x": ""})
	if err := os.Symlink(secret, filepath.Join(dirs.Sessions(), "7.json")); err != nil {
		t.Fatal(err)
	}
	f, err := s.Register(Session{PID: 7, Container: "debian"})
	if err != nil {
		t.Fatal(err)
	}
	if got := sessions(t, s); len(got) != 1 || got[0].Container != "debian" {
		t.Errorf("Sessions: %+v", got)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got := sessions(t, s); len(got) != 0 {
		t.Errorf("Sessions: %+v", got)
	}
	if data, err := os.ReadFile(secret); err != nil || string(data) != "keep me" {
		t.Errorf("written through a link: %q, %v", data, err)
	}
}

func TestHostileSessions(t *testing.T) {
	s, dirs := newStore(t)
	dead := 4_194_304 // above the largest PID there is
	plant(t, dirs.Sessions(), map[string]string{
		"1.json/": "", "abc.json": "{}", "-1.json": "{}", "0.json": "{}", "5.txt": "{}", "99999999999999999999.json": "{}",
		fmt.Sprintf("%d.json", dead): "{}", fmt.Sprintf("%d.new", dead): "{}", fmt.Sprintf("%d.new", os.Getpid()): "{}",
	})
	path := func(name string) string { return filepath.Join(dirs.Sessions(), name) }
	if err := errors.Join(syscall.Mkfifo(path("2.json"), 0o600), os.Symlink("/dev/zero", path("3.json"))); err != nil {
		t.Fatal(err)
	}
	// These are locked, and so look alive.
	for name, data := range map[string]string{
		"10.json": "no JSON", "11.json": `{"pid": 12, "container": "debian"}`, "13.json": `{"pid": 13, "container": "../x"}`, "14.json": "{}",
	} {
		f, err := os.Create(path(name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(data); err != nil {
			t.Fatal(err)
		}
		if data == "{}" {
			if err := f.Truncate(1 << 40); err != nil {
				t.Fatal(err)
			}
		}
		if ok, err := flock.Try(f, unix.LOCK_EX); err != nil || !ok {
			t.Fatal(ok, err)
		}
	}
	if got := sessions(t, s); len(got) != 0 {
		t.Errorf("Sessions: %+v", got)
	}
	for _, name := range []string{fmt.Sprintf("%d.json", dead), fmt.Sprintf("%d.new", dead)} {
		if _, err := os.Lstat(path(name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s stays: %v", name, err)
		}
	}
	for _, name := range []string{"5.txt", "10.json", strconv.Itoa(os.Getpid()) + ".new"} {
		if _, err := os.Lstat(path(name)); err != nil {
			t.Error(err)
		}
	}
}

func FuzzParseSession(f *testing.F) {
	good, _ := json.Marshal(Session{PID: 7, Container: "debian", Started: time.Unix(0, 0)})
	for _, s := range []string{string(good), "{}", "null", `{"pid":7}`, `{"pid":7,"container":"a/b"}`, `{"pid":"7"}`, `{"pid":7,"container":"a","command":[null]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		sess, ok := parseSession(data, 7)
		if ok && (sess.PID != 7 || ValidateName(sess.Container) != nil) {
			t.Errorf("accepted: %+v", sess)
		}
	})
}

// A session that ends takes its file along, but not while one of its guests goes on.
func TestUnregister(t *testing.T) {
	s, dirs := newStore(t)
	f, err := s.Register(Session{PID: 9, Container: "debian"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unregister(9); err != nil {
		t.Error(err)
	}
	if got := sessions(t, s); len(got) != 1 {
		t.Errorf("while a guest lives: %v", got)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // somebody may have listed sessions before
		if err := s.Unregister(9); err != nil {
			t.Error(err)
		}
	}
	if left := tree(t, dirs.Sessions()); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
