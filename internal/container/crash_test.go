package container

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"proot-distro/internal/host"
	"proot-distro/internal/rootfs"
)

func TestRecreate(t *testing.T) {
	s, dirs := newStore(t)
	install(t, s, "debian", "old")
	for _, commit := range []bool{false, true} {
		c, err := s.Open("debian", Exclusive, "reset")
		if err != nil {
			t.Fatal(err)
		}
		draft, err := c.Recreate()
		if err != nil {
			t.Fatal(err)
		}
		if draft.Dir() == c.Dir() || draft.LockFile() != c.LockFile() {
			t.Errorf("draft in %s, container in %s", draft.Dir(), c.Dir())
		}
		plant(t, draft.RootfsPath(), map[string]string{"etc/content": "new"})
		want := "old"
		if commit {
			want = "new"
			if err := draft.Commit(); err != nil {
				t.Fatal(err)
			}
			if draft.Dir() != c.Dir() {
				t.Errorf("after Commit the draft is in %s", draft.Dir())
			}
		}
		if got := names(t, s); !slices.Equal(got, []string{"debian"}) {
			t.Errorf("Names: %v", got)
		}
		if err := draft.Close(); err != nil {
			t.Fatal(err)
		}
		noStaging(t, dirs)
		busy(t, s, Shared) // the container that was opened keeps the lock
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if got := content(t, s, "debian"); got != want {
			t.Errorf("commit %v: %s", commit, got)
		}
	}
}

// When the new container can't be put in place, the old one is back at once.
func TestFailedCommitRollsBack(t *testing.T) {
	s, _ := newStore(t)
	install(t, s, "debian", "old")
	c, err := s.Open("debian", Exclusive, "reset")
	if err != nil {
		t.Fatal(err)
	}
	draft, err := c.Recreate()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(draft.Dir(), draft.Dir()+".elsewhere"); err != nil {
		t.Fatal(err)
	}
	if err := draft.Commit(); err == nil {
		t.Error("committed nothing")
	}
	if err := errors.Join(draft.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	if got := content(t, s, "debian"); got != "old" {
		t.Errorf("after the failure: %s", got)
	}
}

// What can be found after a kill, by every command that may come next.
func TestRecovery(t *testing.T) {
	const home, draft, old, removed = "containers/debian/", "staging/debian/", "staging/debian~old/", "staging/debian~removed/"
	const file = "rootfs/etc/content"
	cases := []struct {
		name  string
		files map[string]string
		want  string // content; empty when no container is left
	}{
		{"making", map[string]string{draft + file: "half"}, ""},
		{"before a replacement", map[string]string{home + file: "old", draft + file: "new"}, "old"},
		{"between the renames", map[string]string{old + file: "old", draft + file: "new"}, "old"},
		{"replaced", map[string]string{home + file: "new", old + file: "old"}, "new"},
		{"replaced, deleting", map[string]string{home + file: "new", removed + "rootfs/": ""}, "new"},
		{"removing", map[string]string{removed + file: "gone"}, ""},
		{"a leftover in the way", map[string]string{home + "shm/": "", old + file: "old"}, "old"},
		{"settling in two steps", map[string]string{home + file: "new", old + file: "old", removed + file: "older"}, "new"},
	}
	next := map[string]func(*Store) error{
		"sweep": (*Store).Sweep,
		"login": func(s *Store) error {
			c, err := s.Open("debian", Shared, "login")
			return closeFound(c, err)
		},
		"reset": func(s *Store) error {
			c, err := s.Open("debian", Exclusive, "reset")
			return closeFound(c, err)
		},
		"install": func(s *Store) error {
			c, err := s.Create("debian", "install")
			return closeFound(c, err)
		},
	}
	for _, tc := range cases {
		for command, run := range next {
			t.Run(tc.name+"/"+command, func(t *testing.T) {
				s, dirs := newStore(t)
				plant(t, dirs.Runtime, tc.files)
				want := []string(nil)
				if tc.want != "" {
					want = []string{"debian"}
				}
				if diff := cmp.Diff(want, names(t, s)); diff != "" {
					t.Errorf("Names at first: %s", diff)
				}
				if err := run(s); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, names(t, s)); diff != "" {
					t.Errorf("Names: %s", diff)
				}
				if tc.want != "" && content(t, s, "debian") != tc.want {
					t.Errorf("content: %s", content(t, s, "debian"))
				}
				if err := s.Sweep(); err != nil {
					t.Fatal(err)
				}
				noStaging(t, dirs)
			})
		}
	}
}

// closeFound closes a container, and takes the answers that depend on whether
// there is one.
func closeFound(c *Container, err error) error {
	var missing *NotFoundError
	var exists *ExistsError
	if errors.As(err, &missing) || errors.As(err, &exists) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.Close()
}

// A guest in the container does not keep the garbage of a reset from being
// found, nor does the garbage keep the guest out.
func TestSweepBesideSharedLock(t *testing.T) {
	s, dirs := newStore(t)
	install(t, s, "debian", "x")
	plant(t, dirs.Staging(), map[string]string{"debian~removed/rootfs/a": "", "other/rootfs/": "", "-stray": ""})
	p := start(t, dirs, "login", "debian")
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dirs.Staging(), "other")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("staging/other: %v", err)
	}
	p.release()
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"-stray": ""}, tree(t, dirs.Staging())); diff != "" {
		t.Error(diff)
	}
}

const kills = 40

// killAtRandom runs an endless act for a round or two, and kills it somewhere in
// the next one, however fast the machine is.
func killAtRandom(t *testing.T, dirs host.Dirs, act string) {
	t.Helper()
	p := start(t, dirs, act, "debian")
	begin := time.Now()
	rounds := 1 + rand.IntN(2)
	for range rounds {
		if line, err := p.out.ReadString('\n'); !strings.HasPrefix(line, "ready") {
			t.Fatalf("%s, %v", line, err)
		}
	}
	time.Sleep(rand.N(time.Since(begin) / time.Duration(rounds)))
	p.kill()
	if rest, err := io.ReadAll(p.out); err != nil || strings.Contains(string(rest), "failed") {
		t.Fatalf("before it was killed: %s, %v", rest, err)
	}
}

func TestKilledInstallAndRemove(t *testing.T) {
	s, dirs := newStore(t)
	for range kills {
		killAtRandom(t, dirs, "cycle")
		listed := names(t, s)
		c, err := s.Open("debian", Shared, "login")
		var missing *NotFoundError
		if errors.As(err, &missing) {
			if len(listed) != 0 {
				t.Fatalf("listed but not there: %v", listed)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(listed, []string{"debian"}) {
			t.Fatalf("there but not listed: %v", listed)
		}
		if _, err := readGeneration(c); err != nil {
			t.Fatalf("half a container: %v", err)
		}
		c.Close()
		remove(t, s)
	}
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	noStaging(t, dirs)
}

func remove(t *testing.T, s *Store) {
	t.Helper()
	c, err := s.Open("debian", Exclusive, "remove")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Remove(rootfs.RemoveOptions{}), c.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestKilledRecreate(t *testing.T) {
	s, dirs := newStore(t)
	c, err := s.Create("debian", "install")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(writeGeneration(c, 0), c.Commit(), c.Close()); err != nil {
		t.Fatal(err)
	}
	last := 0
	for range kills {
		killAtRandom(t, dirs, "recreate")
		if got := names(t, s); !slices.Equal(got, []string{"debian"}) {
			t.Fatalf("Names: %v", got)
		}
		c, err := s.Open("debian", Shared, "login")
		if err != nil {
			t.Fatal(err)
		}
		generation, err := readGeneration(c)
		if err != nil {
			t.Fatalf("half a container: %v", err)
		}
		if generation < last {
			t.Fatalf("generation %d after %d", generation, last)
		}
		last = generation
		c.Close()
	}
	if last < kills {
		t.Errorf("only %d times recreated", last)
	}
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	noStaging(t, dirs)
}
