package transfer

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// On a full disk a transfer ends with an error that says so. What was there before is
// unharmed, and nothing half-written is left.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root, to mount a small file system")
	}
	w := newWorld(t)
	small := w.dirs["other"]
	if err := unix.Mount("pd-test", small, "tmpfs", 0, "size=1m"); errors.Is(err, unix.EPERM) {
		t.Skip("this root may not mount: ", err)
	} else {
		check(t, err)
	}
	t.Cleanup(func() { check(t, unix.Unmount(small, unix.MNT_DETACH)) })
	// The tree was opened below the mount.
	full := filepath.Join(small, "full")
	build(t, small, "full/big=old")
	build(t, w.host, "d/a=1", "d/big="+string(bytes.Repeat([]byte("x"), 2<<20)))
	to := End{Path: full}
	for name, run := range map[string]func() (Result, error){
		"copy": func() (Result, error) {
			return Copy(context.Background(), w.end("d/."), to, CopyOptions{Options: w.options(), Recursive: true})
		},
		"move": func() (Result, error) {
			return Copy(context.Background(), w.end("d/big"), to, CopyOptions{Options: w.options(), Move: true})
		},
		"sync": func() (Result, error) {
			return Sync(context.Background(), w.end("d"), to, SyncOptions{Options: w.options(), Delete: true})
		},
	} {
		if _, err := run(); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: %v", name, err)
		}
		if data, err := os.ReadFile(filepath.Join(full, "big")); err != nil || string(data) != "old" {
			t.Errorf("%s: the file that was there has %d bytes, %v", name, len(data), err)
		}
		entries, err := os.ReadDir(full)
		if check(t, err); len(entries) > 2 {
			t.Errorf("%s left %v", name, entries)
		}
	}
	if _, err := os.Stat(filepath.Join(w.host, "d/big")); err != nil {
		t.Errorf("the source of a move: %v", err)
	}
}
