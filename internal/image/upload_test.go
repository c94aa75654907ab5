package image

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"proot-distro/internal/host"
)

func TestUpload(t *testing.T) {
	dirs := host.Dirs{Cache: t.TempDir()}
	cache := OpenCache(dirs)
	files := func() []string {
		found, err := filepath.Glob(filepath.Join(dirs.Cache, uploadsDir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	u := cache.Upload("a")
	if got := u.Read(); got != nil {
		t.Errorf("a new one says %q", got)
	}
	u.Write([]byte("a long text"))
	u.Write([]byte("short"))
	if other := cache.Upload("a"); other != nil {
		t.Error("two have it at once")
	}
	if other := cache.Upload("b"); other == nil || other.Read() != nil {
		t.Error("another key is in the way")
	} else {
		other.Close()
	}
	u.Close()
	if len(files()) != 1 {
		t.Errorf("files %q", files())
	}
	u = cache.Upload("a")
	if got := string(u.Read()); got != "short" {
		t.Errorf("it remembers %q", got)
	}
	u.Forget()
	u.Close()
	if len(files()) != 0 {
		t.Errorf("files %q", files())
	}

	// What is older than a week is of no use to anybody.
	u = cache.Upload("a")
	u.Write([]byte("old"))
	u.Close()
	old := time.Now().Add(-uploadLife - time.Hour)
	if err := os.Chtimes(files()[0], old, old); err != nil {
		t.Fatal(err)
	}
	u = cache.Upload("b")
	if u.Close(); len(files()) != 0 {
		t.Errorf("files %q", files())
	}

	// Traps are no files.
	if err := os.RemoveAll(filepath.Join(dirs.Cache, uploadsDir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(t.TempDir(), filepath.Join(dirs.Cache, uploadsDir)); err != nil {
		t.Fatal(err)
	}
	u = cache.Upload("a")
	u.Write([]byte("x"))
	if u.Forget(); u != nil {
		t.Error("a link was followed")
	}
}
