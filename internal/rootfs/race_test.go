package rootfs

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// While operations run below "d", "d" is swapped with a link to outside as fast as
// can be. Some succeed and some fail; nothing outside may be touched or read.
func TestRace(t *testing.T) {
	dir := tree(t, "d/sub/f=in", "other/sub/f=in")
	outside := filepath.Join(filepath.Dir(dir), "outside")
	check(t, os.MkdirAll(filepath.Join(outside, "sub/keep"), 0o755))
	check(t, os.WriteFile(filepath.Join(outside, "sub/f"), []byte("OUTSIDE"), 0o644))
	check(t, os.Symlink(outside, filepath.Join(dir, "link")))
	before := snapshot(t, outside)
	fsys := open(t, dir, GuestLinks)

	stop := make(chan struct{})
	var swapper sync.WaitGroup
	swaps := 0
	swapper.Go(func() {
		d, link := filepath.Join(dir, "d"), filepath.Join(dir, "link")
		for {
			select {
			case <-stop:
				return
			default:
			}
			if unix.Renameat2(unix.AT_FDCWD, d, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE) == nil {
				swaps++
			}
		}
	})
	inside, failed := 0, 0
	deadline := time.Now().Add(time.Second)
	for i := 0; time.Now().Before(deadline); i++ {
		data, err := fsys.ReadFile("d/sub/f", 100)
		if string(data) == "OUTSIDE" {
			t.Fatal("read a file outside")
		}
		if err == nil {
			inside++
		} else {
			failed++
		}
		name := fmt.Sprintf("d/sub/n%d", i)
		fsys.WriteFile(name, []byte("x"), 0o600)
		fsys.Mkdir(name+"d", 0o700)
		fsys.Symlink("x", name+"l")
		fsys.Rename("d/sub/f", "d/sub/g")
		fsys.Rename("d/sub/g", "d/sub/f")
		fsys.Remove("d/sub/keep")
		fsys.RemoveAll("d/sub/keep", RemoveOptions{})
		if p, base, err := fsys.Parent("d/sub"); err == nil {
			p.Chmod(base, 0o755)
			p.Chtimes(base, time.Unix(1, 0))
			p.Close()
		}
		if i%50 == 0 {
			fsys.RemoveAll("d", RemoveOptions{})
			fsys.MkdirAll("other/sub", 0o755)
			os.Rename(filepath.Join(dir, "other"), filepath.Join(dir, "d"))
			fsys.WriteFile("d/sub/f", []byte("in"), 0o644)
			os.Symlink(outside, filepath.Join(dir, "link"))
		}
	}
	close(stop)
	swapper.Wait()
	if after := snapshot(t, outside); after != before {
		t.Errorf("outside changed:\n%s\nnow:\n%s", before, after)
	}
	if swaps == 0 || inside == 0 || failed == 0 {
		t.Errorf("the race was not run: %d swaps, %d reads inside, %d failed", swaps, inside, failed)
	}
	t.Logf("%d swaps, %d reads inside, %d failed", swaps, inside, failed)
}

func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var s string
	check(t, filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		s += fmt.Sprintln(path, info.Mode(), info.Size(), info.ModTime().UnixNano())
		return err
	}))
	return s
}
