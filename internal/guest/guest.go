// Package guest reads and writes what is inside a container's root filesystem:
// which architecture it has, whether a program can run, who its users are, and
// the few files in /etc that a fresh container needs.
//
// Everything in there belongs to a stranger. Files are reached through
// [rootfs.FS] only, so that links mean what they mean to the guest; every read
// has a limit, and malformed content is skipped or named in an error, never
// trusted.
package guest

import (
	"errors"
	"fmt"
	"io/fs"

	"proot-distro/internal/rootfs"
)

const (
	resolvConf = "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
	hosts      = `127.0.0.1	localhost.localdomain localhost
::1	localhost.localdomain localhost ip6-localhost ip6-loopback
fe00::0	ip6-localnet
ff00::0	ip6-mcastprefix
ff02::1	ip6-allnodes
ff02::2	ip6-allrouters
`
)

// FixEtc gives a freshly unpacked container working name resolution: it
// replaces /etc/resolv.conf and /etc/hosts. A link in their place (images often
// have resolv.conf → /run/…) is replaced, not written through. A container
// without /etc is left alone.
func FixEtc(root *rootfs.FS) error {
	etc, err := root.Stat("/etc")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("examine /etc: %w", err)
	case !etc.Mode.IsDir():
		return nil
	}
	for _, file := range []struct{ name, content string }{
		{"/etc/resolv.conf", resolvConf},
		{"/etc/hosts", hosts},
	} {
		if err := root.WriteFile(file.name, []byte(file.content), 0o644); err != nil {
			return fmt.Errorf("write %s: %w", file.name, err)
		}
	}
	return nil
}
