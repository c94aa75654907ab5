package container

import (
	"os"
	"path/filepath"
	"testing"

	"proot-distro/internal/rootfs"
)

func TestAllIDs(t *testing.T) {
	s, dirs := newStore(t)
	need := func(want bool, names ...string) {
		t.Helper()
		if got, err := s.AllIDs(names...); got != want || err != nil {
			t.Errorf("%q: %v, %v; want %v", names, got, err, want)
		}
	}
	need(false, "debian")
	install(t, s, "debian", "x")
	install(t, s, "other", "x")
	need(false, "debian", "nowhere", "../etc")
	c, err := s.Open("debian", Exclusive, "test")
	check(t, err)
	check(t, c.SetAllIDs(false)) // as it is
	check(t, c.SetAllIDs(true))
	if !c.AllIDs() {
		t.Error("not recorded")
	}
	need(true, "other", "debian")
	need(false, "other")
	draft, err := c.Recreate()
	check(t, err)
	if draft.AllIDs() {
		t.Error("a draft inherits")
	}
	check(t, draft.Close())
	check(t, c.SetAllIDs(false))
	need(false, "debian")
	check(t, c.SetAllIDs(true))
	check(t, c.Close())
	check(t, s.Rename("debian", "renamed", "test"))
	need(true, "renamed")

	// What a killed process left in staging needs them too, to its end.
	check(t, os.Rename(filepath.Join(dirs.Containers(), "renamed"), filepath.Join(dirs.Staging(), "renamed~removed")))
	need(false, "renamed")
	staged := func(want bool) {
		t.Helper()
		if got, err := s.StagedAllIDs(); got != want || err != nil {
			t.Errorf("staged: %v, %v; want %v", got, err, want)
		}
	}
	staged(true)
	check(t, s.Sweep())
	staged(false)

	c, err = s.Open("other", Shared, "test")
	check(t, err)
	defer c.Close()
	if c.SetAllIDs(true) == nil {
		t.Error("changed under a shared lock")
	}
}

// The mark is deleted after everything that it stands for.
func TestAllIDsRemoved(t *testing.T) {
	s, dirs := newStore(t)
	install(t, s, "debian", "x")
	c, err := s.Open("debian", Exclusive, "test")
	check(t, err)
	defer c.Close()
	check(t, c.SetAllIDs(true))
	marks := 0
	check(t, c.Remove(rootfs.RemoveOptions{OnRemove: func(name string) {
		_, err := os.Lstat(filepath.Join(dirs.Staging(), "debian~removed", usernsFile))
		if err == nil {
			marks++
		} else if name == "/rootfs" {
			t.Error("the mark is gone before the root filesystem")
		}
	}}))
	if marks == 0 {
		t.Error("the mark was never there")
	}
}

func TestForeignFile(t *testing.T) {
	s, dirs := newStore(t)
	install(t, s, "debian", "x")
	c, err := s.Open("debian", Exclusive, "test")
	check(t, err)
	defer c.Close()
	root := filepath.Join(dirs.Containers(), "debian", "rootfs")
	check(t, os.MkdirAll(filepath.Join(root, "a/b"), 0o755))
	check(t, os.Symlink("/nowhere", filepath.Join(root, "a/b/link")))
	if name, err := c.ForeignFile(); name != "" || err != nil {
		t.Errorf("found %q, %v", name, err)
	}
	foreign := "/a/b/link"
	if os.Getuid() == 0 {
		check(t, os.Lchown(filepath.Join(root, foreign), 0, 5))
	} else {
		foreign = "/a/b"
		check(t, os.Chmod(filepath.Join(root, foreign), 0))
		defer os.Chmod(filepath.Join(root, foreign), 0o755)
	}
	if name, err := c.ForeignFile(); name != foreign || err != nil {
		t.Errorf("found %q, %v; want %q", name, err, foreign)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
