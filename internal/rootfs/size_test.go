package rootfs

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSize(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"a": "12345", "d/b": "678", "d/e/c": "9", "out": "not in d"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		os.WriteFile(filepath.Join(dir, "d/hole"), nil, 0o644), os.Truncate(filepath.Join(dir, "d/hole"), 1<<30),
		os.Link(filepath.Join(dir, "d/b"), filepath.Join(dir, "d/again")),
		os.Symlink(filepath.Join(dir, "out"), filepath.Join(dir, "d/link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := Open(dir, GuestLinks)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	want := 4 + int64(len(filepath.Join(dir, "out"))) // b, c, and the link itself
	if got := root.Size("d"); got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
	if got := root.Size("none"); got != 0 {
		t.Errorf("%d bytes of nothing", got)
	}
}
