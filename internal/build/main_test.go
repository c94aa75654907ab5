package build

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"proot-distro/internal/engine/native"
)

// TestMain runs all tests twice: where nothing can be mounted, so that layers are unpacked for each build, and
// where overlays can.
func TestMain(m *testing.M) {
	if _, inside := native.Unshared(); inside {
		fmt.Println("The same tests with overlays:")
		os.Exit(m.Run())
	}
	if status := m.Run(); status != 0 {
		os.Exit(status)
	}
	status, err := native.Unshare(native.OwnID, nil)
	if errors.Is(err, native.ErrCgo) {
		status, err = native.Unshare(native.SingleID, nil)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "builds with overlays cannot be tested:", err)
		status = 1
	}
	os.Exit(status)
}

// mayMount is [Builder.MayMount] for all tests.
func mayMount() bool {
	_, inside := native.Unshared()
	return inside && (native.DropAmbient() == nil || os.Geteuid() == 0)
}
