package rootfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOpenState(t *testing.T) {
	dir := t.TempDir()
	base, elsewhere := filepath.Join(dir, "state"), filepath.Join(dir, "elsewhere")
	cache := filepath.Join(base, "a/cache")
	if _, err := OpenState(base, cache, false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	for _, name := range []string{cache, elsewhere} {
		tree, err := OpenState(base, name, true)
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.WriteFile("file", nil, 0o600); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(name, "file")); err != nil || tree.Path() != name {
			t.Errorf("%s: %v, path %s", name, err, tree.Path())
		}
		_, err = tree.ReadFile("nothing", 1)
		if err == nil || !strings.Contains(err.Error(), filepath.Join(name, "nothing")) {
			t.Errorf("the error does not name the file as the user finds it: %v", err)
		}
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	}
	// A guest makes the cache lead to another place.
	if err := errors.Join(os.RemoveAll(cache), os.Symlink(elsewhere, cache)); err != nil {
		t.Fatal(err)
	}
	for _, create := range []bool{false, true} {
		if _, err := OpenState(base, cache, create); !errors.Is(err, ErrUnsafe) {
			t.Errorf("create %v: a link was followed: %v", create, err)
		}
	}
}

// The Python program makes its directories for everybody.
func TestOpenStateClosesToOthers(t *testing.T) {
	base := filepath.Join(t.TempDir(), "state")
	if err := errors.Join(os.Mkdir(base, 0o755), os.Chmod(base, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		create bool
		mode   fs.FileMode
	}{{false, 0o755}, {true, 0o700}} {
		tree, err := OpenState(base, base, tt.create)
		if err != nil {
			t.Fatal(err)
		}
		tree.Close()
		if info, err := os.Stat(base); err != nil || info.Mode().Perm() != tt.mode {
			t.Errorf("create %v: %v, %v", tt.create, info.Mode(), err)
		}
	}
}
