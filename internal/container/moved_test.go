package container

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"proot-distro/internal/host"
)

// linked makes a file with two names in the tree at dir, as proot leaves it when the tree is at root.
func linked(t *testing.T, dir, root string) {
	t.Helper()
	plant(t, dir, map[string]string{".l2s/.l2s.one0001.0002": "1", "etc/": ""})
	for link, target := range map[string]string{
		"etc/one": ".l2s/.l2s.one0001", "etc/two": ".l2s/.l2s.one0001", ".l2s/.l2s.one0001": ".l2s/.l2s.one0001.0002",
	} {
		if err := os.Symlink(filepath.Join(root, target), filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
}

// checkLinks checks that the links of linked lead to where the container is.
func checkLinks(t *testing.T, dirs host.Dirs, name string) {
	t.Helper()
	root := filepath.Join(dirs.Containers(), name, "rootfs")
	for _, link := range []string{"etc/one", "etc/two", ".l2s/.l2s.one0001"} {
		target, err := os.Readlink(filepath.Join(root, link))
		if err != nil || !strings.HasPrefix(target, root+"/") {
			t.Errorf("%s → %s, %v", link, target, err)
		}
	}
	if data, err := os.ReadFile(filepath.Join(root, "etc/one")); err != nil || string(data) != "1" {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := os.Lstat(filepath.Join(dirs.Containers(), name, movedFrom)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the note stays: %v", err)
	}
}

func TestRename(t *testing.T) {
	s, dirs := newStore(t)
	for _, to := range []string{"zebra", "ant"} { // both orders of the locks
		install(t, s, "debian", to)
		root := filepath.Join(dirs.Containers(), "debian/rootfs")
		linked(t, root, root)
		plant(t, dirs.Containers(), map[string]string{"debian/shm/x": "", to + "/shm/leftover": ""})
		if err := s.Rename("debian", to, "rename"); err != nil {
			t.Fatal(err)
		}
		checkLinks(t, dirs, to)
		if got := content(t, s, to); got != to {
			t.Errorf("%s: %s", to, got)
		}
		if _, err := os.Stat(filepath.Join(dirs.Containers(), to, "shm/x")); err != nil {
			t.Error(err)
		}
	}
	if got := names(t, s); !slices.Equal(got, []string{"ant", "zebra"}) {
		t.Errorf("Names: %v", got)
	}
	noStaging(t, dirs)
}

func TestRenameRefused(t *testing.T) {
	s, dirs := newStore(t)
	var missing *NotFoundError
	var exists *ExistsError
	var busy *BusyError
	if err := s.Rename("debian", "ubuntu", "rename"); !errors.As(err, &missing) {
		t.Errorf("no state at all: %v", err)
	}
	install(t, s, "debian", "d")
	install(t, s, "ubuntu", "u")
	plant(t, dirs.Legacy(), map[string]string{"old/etc/content": "o"})
	before := tree(t, dirs.Containers())
	for _, name := range []string{"arch", "zorin"} {
		if err := s.Rename(name, "new", "rename"); !errors.As(err, &missing) || missing.Name != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "../x", "-x", "a/b", "debian"} {
		if err := s.Rename("debian", name, "rename"); err == nil || errors.As(err, &exists) {
			t.Errorf("to %q: %v", name, err)
		}
	}
	if err := s.Rename("debian", "ubuntu", "rename"); !errors.As(err, &exists) || exists.Name != "ubuntu" {
		t.Errorf("taken: %v", err)
	}
	for _, pair := range [][2]string{{"debian", "new"}, {"ubuntu", "new"}} {
		p := start(t, dirs, "login", pair[0])
		if err := s.Rename(pair[0], pair[1], "rename"); !errors.As(err, &busy) || busy.Name != pair[0] {
			t.Errorf("while it is used: %v", err)
		}
		p.release()
	}
	p := start(t, dirs, "install", "new")
	if err := s.Rename("debian", "new", "rename"); !errors.As(err, &busy) || busy.Name != "new" {
		t.Errorf("while the new name is being installed: %v", err)
	}
	p.release()
	if diff := cmp.Diff(before, tree(t, dirs.Containers())); diff != "" {
		t.Error(diff)
	}
	if err := s.Rename("debian", "old", "rename"); !errors.As(err, &exists) {
		t.Errorf("taken by a container of the old layout: %v", err)
	}
	if got := content(t, s, "old"); got != "o" {
		t.Errorf("old: %s", got)
	}
}

func TestMigration(t *testing.T) {
	open := func(mode LockMode) func(s *Store) error {
		return func(s *Store) error { c, err := s.Open("debian", mode, "x"); return closeFound(c, err) }
	}
	for command, act := range map[string]func(s *Store) error{
		"login":   open(Shared),
		"reset":   open(Exclusive),
		"install": func(s *Store) error { c, err := s.Create("debian", "install"); return closeFound(c, err) },
	} {
		t.Run(command, func(t *testing.T) {
			s, dirs := newStore(t)
			old := filepath.Join(dirs.Legacy(), "debian")
			plant(t, old, map[string]string{"etc/content": "old"})
			plant(t, dirs.Runtime, map[string]string{"containers/debian/shm/x": "", "installed-rootfs/.bad/x": "", "installed-rootfs/file": ""})
			linked(t, old, old)
			if err := os.Chmod(old, 0o555); err != nil { // as Fedora's / is
				t.Fatal(err)
			}
			if got := names(t, s); !slices.Equal(got, []string{"debian"}) {
				t.Errorf("Names: %v", got)
			}
			if err := act(s); err != nil {
				t.Fatal(err)
			}
			if got := content(t, s, "debian"); got != "old" {
				t.Error(got)
			}
			checkLinks(t, dirs, "debian")
			if info, err := os.Stat(filepath.Join(dirs.Containers(), "debian/rootfs")); err != nil || info.Mode().Perm() != 0o555 {
				t.Errorf("%v, %v", info.Mode(), err)
			}
			if got := names(t, s); !slices.Equal(got, []string{"debian"}) {
				t.Errorf("Names: %v", got)
			}
			if err := os.Chmod(filepath.Join(dirs.Containers(), "debian/rootfs"), 0o755); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A container of each layout with one name: the new one counts, and the old one is left alone.
func TestBothLayouts(t *testing.T) {
	s, dirs := newStore(t)
	install(t, s, "debian", "new")
	plant(t, dirs.Legacy(), map[string]string{"debian/etc/content": "old"})
	if got := names(t, s); !slices.Equal(got, []string{"debian"}) {
		t.Errorf("Names: %v", got)
	}
	if got := content(t, s, "debian"); got != "new" {
		t.Error(got)
	}
	if _, err := os.Stat(filepath.Join(dirs.Legacy(), "debian/etc/content")); err != nil {
		t.Error(err)
	}
}

// What can be found after a kill, and what a guest could put there instead of a note.
func TestUnfinishedMove(t *testing.T) {
	for _, tc := range []struct {
		name, root string // root: where the links lead, below the state directory
		note       string
		moved      bool // the links are brought up to date
	}{
		{"before the rename", "containers/debian/rootfs", "containers/debian\n", false},
		{"while writing the note", "containers/debian/rootfs", "", false},
		{"after the rename", "containers/old/rootfs", "containers/old\n", true},
		{"after the migration", "installed-rootfs/debian", "installed-rootfs/debian\n", true},
		{"foreign path", "../elsewhere", "../elsewhere", false},
		{"bad name", "containers/..", "containers/..", false},
		{"huge", "containers/old/rootfs", "containers/old\n" + strings.Repeat(" ", maxNote), false},
	} {
		for _, mode := range []LockMode{Shared, Exclusive} {
			s, dirs := newStore(t)
			root := filepath.Join(dirs.Containers(), "debian/rootfs")
			linked(t, root, filepath.Join(dirs.Runtime, tc.root))
			plant(t, dirs.Containers(), map[string]string{"debian/" + movedFrom: tc.note})
			c, err := s.Open("debian", mode, "x")
			if err != nil {
				t.Fatalf("%s: %v", tc.name, err)
			}
			c.Close()
			if tc.moved || tc.root == "containers/debian/rootfs" {
				checkLinks(t, dirs, "debian")
			} else if target, err := os.Readlink(filepath.Join(root, "etc/one")); err != nil || strings.HasPrefix(target, root) {
				t.Errorf("%s: %s, %v", tc.name, target, err)
			}
			if _, err := os.Lstat(filepath.Join(dirs.Containers(), "debian", movedFrom)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: the note stays: %v", tc.name, err)
			}
		}
	}
	for what, put := range map[string]func(name string) error{
		"link":      func(name string) error { return os.Symlink("/etc/passwd", name) },
		"fifo":      func(name string) error { return unix.Mkfifo(name, 0o600) },
		"directory": func(name string) error { return os.MkdirAll(filepath.Join(name, "x"), 0o700) },
	} {
		s, dirs := newStore(t)
		install(t, s, "debian", "x")
		if err := put(filepath.Join(dirs.Containers(), "debian", movedFrom)); err != nil {
			t.Fatal(err)
		}
		if got := content(t, s, "debian"); got != "x" {
			t.Errorf("%s: %s", what, got)
		}
	}
}

// A rename back and forth is killed at random moments: the container is there under one name,
// and once it is opened its links lead to where it is.
func TestKilledRename(t *testing.T) {
	s, dirs := newStore(t)
	install(t, s, "debian", "x")
	root := filepath.Join(dirs.Containers(), "debian/rootfs")
	linked(t, root, root)
	seen := map[string]int{}
	for range kills {
		killAtRandom(t, dirs, "rename")
		got := names(t, s)
		if len(got) != 1 {
			t.Fatalf("Names: %v", got)
		}
		seen[got[0]]++
		c, err := s.Open(got[0], Shared, "login")
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		checkLinks(t, dirs, got[0])
		if got[0] != "debian" {
			if err := s.Rename(got[0], "debian", "rename"); err != nil {
				t.Fatal(err)
			}
		}
		checkLinks(t, dirs, "debian")
	}
	noStaging(t, dirs)
	if len(seen) != 2 {
		t.Errorf("names seen: %v", seen)
	}
}
