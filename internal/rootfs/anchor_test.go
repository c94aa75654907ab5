package rootfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestAnchored(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "rootfs")
	outside := filepath.Join(dir, "rootfs-other")
	for name, content := range map[string]string{
		filepath.Join(root, ".l2s/.l2s.perl0001.0002"): "inside",
		filepath.Join(outside, "secret"):               "outside",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"perl":               root + "/.l2s/.l2s.perl0001",
		".l2s/.l2s.perl0001": root + "/.l2s/.l2s.perl0001.0002",
		"sibling":            outside + "/secret",
		"escape":             root + "/../rootfs-other/secret",
	} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	plain, err := Open(root, GuestLinks)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	anchored := plain.Anchored([]string{root})
	if data, err := anchored.ReadFile("/perl", 100); err != nil || string(data) != "inside" {
		t.Errorf("%q, %v", data, err)
	}
	if where, err := anchored.Resolve("/perl"); err != nil || where != "/.l2s/.l2s.perl0001.0002" {
		t.Errorf("%q, %v", where, err)
	}
	for _, name := range []string{"sibling", "escape"} {
		if _, err := anchored.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := plain.Stat("perl"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without anchors: %v", err)
	}
	if err := anchored.Close(); err != nil {
		t.Error(err)
	}
	if _, err := plain.Stat("/"); err != nil {
		t.Errorf("closing the view closed the tree: %v", err)
	}
}
