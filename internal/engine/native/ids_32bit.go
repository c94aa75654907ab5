//go:build 386 || arm

package native

import "golang.org/x/sys/unix"

// setgroups without 32 in its name has IDs of 16 bits here.
const sysSetgroups = unix.SYS_SETGROUPS32
