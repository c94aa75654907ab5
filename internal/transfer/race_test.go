package transfer

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/internal/rootfs"
)

// While transfers run, directories and files inside both containers are swapped with
// links to outside as fast as can be. Nothing outside may be read or written.
func TestRace(t *testing.T) {
	w := newWorld(t)
	outside := filepath.Join(t.TempDir(), "outside")
	build(t, outside, "sub/f=OUTSIDE", "f=OUTSIDE", "sub/keep=OUTSIDE")
	for _, name := range []string{"box", "other"} {
		build(t, w.dirs[name], "d/sub/f=in", "d/f=in", "dlink->"+outside, "f=in", "flink->"+outside+"/f")
	}
	before := list(t, outside)
	stop := make(chan struct{})
	var swappers sync.WaitGroup
	for _, name := range []string{"box", "other"} {
		for _, pair := range [][2]string{{"d", "dlink"}, {"f", "flink"}} {
			swappers.Go(func() {
				a, b := filepath.Join(w.dirs[name], pair[0]), filepath.Join(w.dirs[name], pair[1])
				for {
					select {
					case <-stop:
						return
					default:
						_ = unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
					}
				}
			})
		}
	}
	o := w.options()
	done, failed := 0, 0
	for deadline := time.Now().Add(1500 * time.Millisecond); time.Now().Before(deadline); {
		for _, run := range []func() error{
			func() error { _, err := w.copy("box:/d", "other:/d/sub/", CopyOptions{Recursive: true}); return err },
			func() error { _, err := w.copy("box:/f", "other:/d/sub/f", CopyOptions{}); return err },
			func() error { _, err := w.copy("box:/d/f", "other:/f", CopyOptions{}); return err },
			func() error { _, err := w.copy("box:/f", "out", CopyOptions{}); return err },
			func() error { _, err := w.copy("box:/", "all", CopyOptions{Recursive: true}); return err },
			func() error { _, err := w.sync("box:/", "other:/", SyncOptions{Delete: true}); return err },
			func() error { _, err := w.sync("other:/d", "dir", SyncOptions{Delete: true}); return err },
			func() error {
				_, err := w.copy("box:/d/sub", "other:/d", CopyOptions{Recursive: true, Move: true})
				return err
			},
			func() error {
				_, err := Clone(context.Background(), w.end("box:/"), w.end("other:/"), CloneOptions{Options: o, NewRoot: "/n"})
				return err
			},
		} {
			if run() == nil {
				done++
			} else {
				failed++
			}
		}
		for _, root := range w.root { // puts back what --delete and --move took, as the guest would
			_ = root.MkdirAll("d/sub", 0o755)
			_ = root.WriteFile("d/sub/f", []byte("in"), 0o644)
			_ = root.WriteFile("d/f", []byte("in"), 0o644)
			_ = root.RemoveAll("d/sub/d", rootfs.RemoveOptions{})
			_ = root.RemoveAll("d/sub/sub", rootfs.RemoveOptions{})
		}
		check(t, os.RemoveAll(filepath.Join(w.host, "all")))
	}
	close(stop)
	swappers.Wait()
	if after := list(t, outside); after != before {
		t.Errorf("outside changed: %.500s", after)
	}
	for _, dir := range []string{w.host, w.dirs["box"], w.dirs["other"]} {
		if strings.Contains(list(t, dir), "=OUTSIDE") {
			t.Errorf("read from outside into %s: %.500s", dir, list(t, dir))
		}
	}
	t.Logf("%d done, %d failed", done, failed)
	if done == 0 || failed == 0 {
		t.Errorf("%d done, %d failed: the race did not take place", done, failed)
	}
}
