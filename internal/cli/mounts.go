package cli

import (
	"os"

	"proot-distro/internal/engine/native"
)

// inMountNamespace runs the command once more where this user may mount, and gives it that process's status. done is false where
// that cannot be, and in that process itself, in which mayMount is true.
func (a *App) inMountNamespace() (mayMount, done bool, err error) {
	if a.Termux() {
		return false, false, nil
	}
	if _, inside := native.Unshared(); inside {
		return native.DropAmbient() == nil || os.Geteuid() == 0, false, nil // root has no ambient ones
	}
	status, err := native.Unshare(native.OwnID, nil)
	if err != nil {
		a.UI.Detailf("Nothing can be mounted: %v", err)
		return false, false, nil
	}
	return false, true, GuestStatus(status)
}
