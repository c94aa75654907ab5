package durability

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// smallWorld has its HOME on a disk of so many MiB.
func smallWorld(t *testing.T, size string) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	home := t.TempDir()
	if err := unix.Mount("tmpfs", home, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("mounting is not allowed here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(home, unix.MNT_DETACH) })
	return newWorld(t, home)
}

// full runs a command that must fail for want of room, and say so in a sentence.
func (w *world) full(args ...string) {
	w.t.Helper()
	out, err := w.run(args...)
	if err == nil || !strings.Contains(out, "no space left on device") || !strings.Contains(out, "The disk is full") {
		w.t.Errorf("pd %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestFullDiskInstall(t *testing.T) {
	w := smallWorld(t, "7m")
	w.writeImage(100, 40<<10) // 8 MiB in the container, and once more in the cache
	w.full("install", "./image.tar", "--name", "box")
	w.same("after an install that did not fit", map[string]string{})
	w.noStaging()
	if err := unix.Mount("", w.home, "", unix.MS_REMOUNT, "size=100m"); err != nil {
		t.Fatal(err)
	}
	w.pd("install", "./image.tar", "--name", "box")
}

func TestFullDiskReset(t *testing.T) {
	w := smallWorld(t, "100m")
	w.writeImage(100, 40<<10)
	w.pd("install", "./image.tar", "--name", "box")
	damage(w, "box")
	before := w.snapshot()
	if err := unix.Mount("", w.home, "", unix.MS_REMOUNT, "size=14m"); err != nil {
		t.Fatal(err)
	}
	w.full("reset", "box")
	w.same("after a reset that did not fit", before)
	w.noStaging()
	w.full("clone", "box", "crate")
	w.same("after a clone that did not fit", before)
	w.noStaging()

	// Without a byte left the container can still be used, cleared from the cache and removed.
	fill(t, filepath.Join(w.home, "filler"))
	if out, err := w.run("rename", "box", "crate"); err == nil {
		w.pd("rename", "crate", "box")
	} else if !strings.Contains(out, "The disk is full") {
		t.Errorf("rename: %s", out)
	}
	w.same("after a rename", before)
	w.pd("clear-cache")
	if err := os.Remove(filepath.Join(w.home, "filler")); err != nil {
		t.Fatal(err)
	}
	fill(t, filepath.Join(w.home, "filler"))
	w.pd("remove", "box")
	w.same("after the removal", map[string]string{})
	w.noStaging()
}

// fill takes all the room that is left.
func fill(t *testing.T, name string) {
	t.Helper()
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = file.Write(make([]byte, size))
		}
	}
	if !strings.Contains(err.Error(), "no space left") {
		t.Fatal(err)
	}
}
