//go:build 386 || arm

package native

import "golang.org/x/sys/unix"

// The calls without 32 in their names have IDs of 16 bits here.
const (
	sysSetgroups = unix.SYS_SETGROUPS32
	sysSetresuid = unix.SYS_SETRESUID32
	sysSetresgid = unix.SYS_SETRESGID32
)
