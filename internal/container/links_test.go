package container

import (
	"os"
	"path/filepath"
	"testing"
)

func TestStandIns(t *testing.T) {
	s, _ := newStore(t)
	install(t, s, "debian", "x")
	c, err := s.Open("debian", Shared, "login")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	check := func(want bool) {
		t.Helper()
		if got, err := c.StandIns(); got != want || err != nil {
			t.Errorf("%v, %v; want %v", got, err, want)
		}
	}
	bin := filepath.Join(c.RootfsPath(), "bin")
	plant(t, bin, map[string]string{".l2s.zip0001.0002": "zip"})
	for name, target := range map[string]string{"zip": ".l2s.zip0001", ".l2s.zip0001": ".l2s.zip0001.0002"} {
		if err := os.Symlink(filepath.Join(bin, target), filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	check(true)
	for _, name := range []string{"zip", ".l2s.zip0001"} {
		if err := os.Remove(filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	check(false)
	// It is remembered, and /.l2s says otherwise at once.
	if _, err := os.Stat(filepath.Join(c.Dir(), plainFile)); err != nil {
		t.Error(err)
	}
	check(false)
	if err := os.Mkdir(filepath.Join(c.RootfsPath(), ".l2s"), 0o755); err != nil {
		t.Fatal(err)
	}
	check(true)
}
