package overlay_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"proot-distro/internal/engine/native"
	"proot-distro/internal/overlay"
	"proot-distro/internal/rootfs"
)

func TestMain(m *testing.M) {
	if _, inside := native.Unshared(); !inside {
		status, err := native.Unshare(native.OwnID, nil)
		if errors.Is(err, native.ErrCgo) {
			status, err = native.Unshare(native.SingleID, nil)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "overlays are tested in a namespace:", err)
			status = 1
		}
		os.Exit(status)
	}
	os.Exit(m.Run())
}

func TestProbe(t *testing.T) {
	root, err := rootfs.Open(t.TempDir(), rootfs.NoLinks)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := overlay.Probe(root); err != nil {
		t.Fatal(err)
	}
}
