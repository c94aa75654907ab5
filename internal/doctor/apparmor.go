package doctor

import (
	"fmt"
	"strings"
)

// AppArmorProfile is a profile, as apparmor.d(5) has it, that lets the program at binary have
// user namespaces where AppArmor keeps them from unknown programs: on Ubuntu since 23.10. It
// permits nothing else that is not permitted anyway. How to install it stands in front.
func AppArmorProfile(program, binary string) string {
	const file = "/etc/apparmor.d/proot-distro"
	return fmt.Sprintf(`# To let proot-distro have user namespaces:
#
#     %s doctor --apparmor-profile | sudo tee %s
#     sudo apparmor_parser -r %s
#
# To undo it, 'sudo apparmor_parser -R %s' and delete that file.

abi <abi/4.0>,
include <tunables/global>

profile proot-distro %s flags=(unconfined) {
  userns,

  include if exists <local/proot-distro>
}
`, program, file, file, file, appArmorPath(binary))
}

// appArmorPath quotes a path, in which patterns mean themselves.
func appArmorPath(path string) string {
	var b strings.Builder
	for _, c := range []byte(path) {
		switch {
		case strings.IndexByte(`*?[]{}^"\`, c) >= 0:
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	return `"` + b.String() + `"`
}
