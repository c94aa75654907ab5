package layout

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	modes "github.com/tonistiigi/dchapes-mode"
	"golang.org/x/sys/unix"

	"proot-distro/internal/rootfs"
)

// Chmod changes a mode as --chmod says.
type Chmod func(fs.FileMode) fs.FileMode

// permissions are the bits that chmod(1) changes.
const permissions = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// ParseChmod reads octal digits, or symbolic modes as of chmod(1). It is nil for "".
func ParseChmod(text string) (Chmod, error) {
	if text == "" {
		return nil, nil
	}
	wrong := fmt.Errorf("--chmod=%s: the mode is octal, from 0 to 7777, or symbolic like u=rwX,go=rX", text)
	if strings.Trim(text, "0123456789") == "" {
		bits, err := strconv.ParseUint(text, 8, 32)
		if err != nil || bits > 0o7777 {
			return nil, wrong
		}
		mode := rootfs.FileMode(uint32(bits) | unix.S_IFREG)
		return func(m fs.FileMode) fs.FileMode { return m&^permissions | mode }, nil
	}
	set, err := modes.Parse(text)
	if err != nil {
		return nil, wrong
	}
	return func(m fs.FileMode) fs.FileMode { return m&^permissions | set.Apply(m)&permissions }, nil
}
