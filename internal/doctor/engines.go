package doctor

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine/native"
	"proot-distro/internal/engine/proot"
	"proot-distro/internal/host"
)

// wishFacts say which engine login is told to take.
type wishFacts struct {
	engine, from string
	err          error
}

// nativeFacts are how an attempt to make namespaces went.
type nativeFacts struct {
	native.Abilities
	err    error
	denial denial
}

// denial is what may explain that the kernel refuses namespaces: settings, which
// decide nothing by themselves.
type denial struct {
	maxUserNamespaces   string // of sysctl user.max_user_namespaces; empty when it cannot be read
	unprivilegedClone   string // of kernel.unprivileged_userns_clone, which Debian's kernels have had
	appArmorRestriction string // of kernel.apparmor_restrict_unprivileged_userns
	seccomp             bool   // a system call filter is in force
}

func lookAtNative() *nativeFacts {
	var f nativeFacts
	if f.Abilities, f.err = native.Examine(); f.err == nil {
		return &f
	}
	f.denial = denial{
		maxUserNamespaces:   sysctl("user/max_user_namespaces"),
		unprivilegedClone:   sysctl("kernel/unprivileged_userns_clone"),
		appArmorRestriction: sysctl("kernel/apparmor_restrict_unprivileged_userns"),
	}
	if mode, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0); err == nil {
		f.denial.seccomp = mode == unix.SECCOMP_MODE_FILTER
	}
	return &f
}

func sysctl(name string) string {
	text, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return "" // most kernels lack most of them
	}
	return strings.TrimSpace(string(text))
}

// prootFacts are how a trial of proot went.
type prootFacts struct {
	proot.Abilities
	err error
}

func lookAtProot(h *host.Host) (f prootFacts) {
	f.Abilities, f.err = proot.Examine(h)
	return f
}

// idFacts are how an attempt to have further user IDs went.
type idFacts struct {
	err error
}

func lookAtIDs() *idFacts {
	return &idFacts{err: native.CheckAllIDs()}
}
