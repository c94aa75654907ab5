package durability

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// mayMount reports whether this process may mount. Else it runs the test once more in a user and a
// mount namespace, where it may.
func mayMount(t *testing.T) bool {
	t.Helper()
	if os.Getuid() == 0 {
		return true
	}
	again := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	again.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := again.CombinedOutput()
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		t.Skipf("a small disk takes root, or user namespaces: %v", err)
	}
	if err != nil || bytes.Contains(out, []byte("--- SKIP")) || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("in a namespace: %v\n%s", err, out)
	}
	return false
}

// smallWorld has its HOME on a disk of so many MiB.
func smallWorld(t *testing.T, size string) *world {
	t.Helper()
	home := t.TempDir()
	if err := unix.Mount("tmpfs", home, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(home, unix.MNT_DETACH) })
	return newWorld(t, home)
}

func (w *world) resize(size string) {
	w.t.Helper()
	if err := unix.Mount("", w.home, "", unix.MS_REMOUNT, "size="+size); err != nil {
		w.t.Fatal(err)
	}
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
	if !mayMount(t) {
		return
	}
	w := smallWorld(t, "7m")
	w.writeImage(100, 40<<10) // 8 MiB in the container, and once more in the cache
	w.full("install", "./image.tar", "--name", "box")
	w.same("after an install that did not fit", map[string]string{})
	w.noStaging()
	w.resize("100m")
	w.pd("install", "./image.tar", "--name", "box")
}

func TestFullDiskReset(t *testing.T) {
	if !mayMount(t) {
		return
	}
	w := smallWorld(t, "100m")
	w.writeImage(100, 40<<10)
	w.pd("install", "./image.tar", "--name", "box")
	damage(w, "box")
	before := w.snapshot()
	w.resize("14m")
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

// TestFullDiskTransfer: no part of a backup, a restored container or a copied file stays.
func TestFullDiskTransfer(t *testing.T) {
	if !mayMount(t) {
		return
	}
	w := smallWorld(t, "100m")
	w.writeImage(100, 40<<10) // 8 MiB, which do not compress
	w.pd("install", "./image.tar", "--name", "box")
	w.pd("clear-cache")
	w.pd("backup", "box", "--output", "box.tar")
	damage(w, "box")
	w.pd("sync", "./image.tar", "box:/data")
	before := w.snapshot()
	w.resize("14m")
	for _, ending := range []string{".tar", ".tar.gz", ".tar.xz", ".tar.zst"} {
		w.full("backup", "box", "--output", filepath.Join(w.home, "box"+ending))
		if left, err := filepath.Glob(filepath.Join(w.home, "*box*")); err != nil || len(left) > 0 {
			t.Errorf("left: %q, %v", left, err)
		}
	}
	w.full("restore", "box.tar")
	w.noStaging()
	large := filepath.Join(w.work, "large")
	if err := os.WriteFile(large, bytes.Repeat([]byte("large"), 3<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	w.full("copy", "./large", "box:/data")
	w.full("copy", "./large", "box:/new")
	w.full("sync", "./large", "box:/data")
	w.same("after commands that did not fit", before)
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
