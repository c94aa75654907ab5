package layout

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	modes "github.com/tonistiigi/dchapes-mode"
)

func unixMode(m fs.FileMode) int64 {
	mode := int64(m.Perm())
	for bit, value := range specialBits {
		if m&bit != 0 {
			mode |= int64(value)
		}
	}
	return mode
}

var specialBits = map[fs.FileMode]uint64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000}

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
		mode := fs.FileMode(bits & 0o777)
		for bit, value := range specialBits {
			if bits&value != 0 {
				mode |= bit
			}
		}
		return func(m fs.FileMode) fs.FileMode { return m&^permissions | mode }, nil
	}
	set, err := modes.Parse(text)
	if err != nil {
		return nil, wrong
	}
	return func(m fs.FileMode) fs.FileMode { return m&^permissions | set.Apply(m)&permissions }, nil
}
