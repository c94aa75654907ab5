package stories

import "golang.org/x/sys/unix"

var legacyLinks = []uint32{unix.SYS_LINK}
