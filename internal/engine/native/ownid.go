package native

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// overlayCapabilities are what it takes to mount an overlay, and to have it copy whatever its owner's modes say.
const overlayCapabilities uint32 = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER |
	1<<unix.CAP_FSETID | 1<<unix.CAP_SETFCAP

// ErrCgo says that the C library's threads cannot give their capabilities up all at once.
var ErrCgo = errors.New("built with CGO_ENABLED=1, this program can have no capabilities of its own")

// keepOverlayCapabilities lets the capabilities outlive execve(2) of a user other than root, as ambient ones.
// Their bearer has to call [DropAmbient].
func keepOverlayCapabilities(p *plan) error {
	if err := DropAmbient(); err != nil { // could it, if it had any?
		return err
	}
	p.step("keep capabilities")
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := &[2]unix.CapUserData{{Effective: overlayCapabilities, Permitted: overlayCapabilities, Inheritable: overlayCapabilities}}
	p.do(unix.SYS_CAPSET, unsafe.Pointer(header), unsafe.Pointer(data))
	for c := range 32 {
		if overlayCapabilities&(1<<c) != 0 {
			p.do(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, c, 0, 0)
		}
	}
	return nil
}

// DropAmbient keeps the capabilities of [OwnID] from the programs that this one starts.
func DropAmbient() error {
	_, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0, 0)
	switch errno {
	case 0:
		return nil
	case unix.ENOTSUP:
		return ErrCgo
	}
	return fmt.Errorf("give up ambient capabilities: %w", errno)
}

// hasOverlayCapabilities reports whether this process has what keepOverlayCapabilities keeps.
func hasOverlayCapabilities() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&header, &data[0])
	return err == nil && data[0].Effective&overlayCapabilities == overlayCapabilities
}
