package proot

import (
	"cmp"
	"strings"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
)

// uname gives the option by which the guest sees another kernel or hostname. Termux's
// fork takes all fields of uname(2) at once, others the release alone.
func (e *Engine) uname(s engine.Spec) ([]string, error) {
	const option = "--kernel-release="
	whole := e.probe.wholeUname()
	if s.Hostname != "" && !whole {
		return nil, e.unsupported("--hostname", "leave it away; the container has the host's name")
	}
	if s.KernelRelease != "" && !whole && !e.probe.KernelRelease {
		return nil, e.unsupported("--kernel", "its emulation breaks programs of glibc 2.33 and newer; install proot 5.2 or newer, or leave it away")
	}
	switch {
	case whole && (s.Features.Uname || s.Hostname != "" || s.KernelRelease != ""):
		return []string{option + utsname(s)}, nil
	case s.KernelRelease != "":
		return []string{option + s.KernelRelease}, nil
	case s.Features.Uname && e.probe.KernelRelease:
		return []string{option + engine.DefaultRelease}, nil
	}
	return nil, nil
}

// utsname is \sysname\nodename\release\version\machine\domainname\hwcap\, where -1 leaves
// the hardware capabilities alone. The machine is the guest's, whose programs may run
// through an emulator.
func utsname(s engine.Spec) string {
	node, release, version := engine.DefaultNodename, engine.DefaultRelease, engine.DefaultVersion
	if !s.Features.Uname {
		var uts unix.Utsname
		_ = unix.Uname(&uts) // cannot fail with a valid pointer
		node = unix.ByteSliceToString(uts.Nodename[:])
		release = unix.ByteSliceToString(uts.Release[:])
		version = unix.ByteSliceToString(uts.Version[:])
	}
	fields := []string{"Linux", cmp.Or(s.Hostname, node), cmp.Or(s.KernelRelease, release), version, s.Arch.Uname(), "localdomain", "-1"}
	for i, field := range fields {
		fields[i] = strings.ReplaceAll(field, `\`, "")
	}
	return `\` + strings.Join(fields, `\`) + `\`
}
