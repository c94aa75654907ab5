package native

import (
	"golang.org/x/sys/unix"

	"proot-distro/internal/seccomp"
)

// faked are calls that need more than one user ID. The filter answers them, and
// chownCalls, with success and does nothing: a file keeps its owner, a process its user.
// Package managers are content with that ("zero-consistency root emulation").
//
// Columns: x86_64, i386, arm, aarch64, riscv64.
var faked = map[string]seccomp.Numbers{
	"setuid":      {105, 23, 23, 146, 146},
	"setuid32":    {0, 213, 213, 0, 0},
	"setgid":      {106, 46, 46, 144, 144},
	"setgid32":    {0, 214, 214, 0, 0},
	"setreuid":    {113, 70, 70, 145, 145},
	"setreuid32":  {0, 203, 203, 0, 0},
	"setregid":    {114, 71, 71, 143, 143},
	"setregid32":  {0, 204, 204, 0, 0},
	"setresuid":   {117, 164, 164, 147, 147},
	"setresuid32": {0, 208, 208, 0, 0},
	"setresgid":   {119, 170, 170, 149, 149},
	"setresgid32": {0, 210, 210, 0, 0},
	"setfsuid":    {122, 138, 138, 151, 151},
	"setfsuid32":  {0, 215, 215, 0, 0},
	"setfsgid":    {123, 139, 139, 152, 152},
	"setfsgid32":  {0, 216, 216, 0, 0},
	"setgroups":   {116, 81, 81, 159, 159},
	"setgroups32": {0, 206, 206, 0, 0},
	"capset":      {126, 185, 185, 91, 91},
}

// Calls that are faked, refused or passed to the supervisor by their arguments.
var (
	callMknod   = seccomp.Numbers{133, 14, 14, 0, 0}
	callMknodat = seccomp.Numbers{259, 297, 324, 33, 33}
	callIoctl   = seccomp.Numbers{16, 54, 54, 29, 29}
	callUname   = seccomp.Numbers{63, 122, 122, 160, 160}
	callBind    = seccomp.Numbers{49, 361, 282, 200, 200}

	callSocketcall = seccomp.Numbers{0, 102, 0, 0, 0}

	// Keyrings belong to users, whatever their namespaces: the guest's root is the caller to
	// them, and could read his keys.
	callAddKey     = seccomp.Numbers{248, 286, 309, 217, 217}
	callRequestKey = seccomp.Numbers{249, 287, 310, 218, 218}
	callKeyctl     = seccomp.Numbers{250, 288, 311, 219, 219}
)

// ioctls by which a program types into the terminal of whoever started it.
const (
	ioctlTIOCSTI   = 0x5412
	ioctlTIOCLINUX = 0x541c
)

// emulation says what a filter does.
type emulation struct {
	fakeRoot bool // success for faked and chownCalls
	owners   bool // chownCalls go to the supervisor
	devices  bool // success for the making of devices, which no user namespace allows
	uname    bool // uname(2) goes to the supervisor
	bind     bool // bind(2) goes to the supervisor
}

// notifies reports whether the filter needs a supervisor.
func (e emulation) notifies() bool { return e.uname || e.bind || e.owners }

func (e emulation) filter() []unix.SockFilter {
	rules := []seccomp.Rule{
		{Call: callIoctl, Action: seccomp.Errno(unix.EPERM), Where: argument(1, ^uint32(0), ioctlTIOCSTI)},
		{Call: callIoctl, Action: seccomp.Errno(unix.EPERM), Where: argument(1, ^uint32(0), ioctlTIOCLINUX)},
		{Call: callAddKey, Action: seccomp.Errno(unix.ENOSYS)},
		{Call: callRequestKey, Action: seccomp.Errno(unix.ENOSYS)},
		{Call: callKeyctl, Action: seccomp.Errno(unix.ENOSYS)},
	}
	if e.uname {
		rules = append(rules, seccomp.Rule{Call: callUname, Action: seccomp.Notify})
	}
	if e.bind {
		const sysBind = 2 // of socketcall(2)
		rules = append(rules,
			seccomp.Rule{Call: callBind, Action: seccomp.Notify},
			seccomp.Rule{Call: callSocketcall, Action: seccomp.Notify, Where: argument(0, ^uint32(0), sysBind)})
	}
	if e.fakeRoot {
		action := seccomp.Errno(0)
		if e.owners {
			action = seccomp.Notify
		}
		for _, c := range chownCalls {
			rules = append(rules, seccomp.Rule{Call: c.numbers, Action: action})
		}
		for _, numbers := range faked {
			rules = append(rules, seccomp.Rule{Call: numbers, Action: seccomp.Errno(0)})
		}
	}
	if e.devices {
		// A FIFO is made as always.
		for _, kind := range []uint32{unix.S_IFCHR, unix.S_IFBLK} {
			rules = append(rules,
				seccomp.Rule{Call: callMknod, Action: seccomp.Errno(0), Where: argument(1, unix.S_IFMT, kind)},
				seccomp.Rule{Call: callMknodat, Action: seccomp.Errno(0), Where: argument(2, unix.S_IFMT, kind)})
		}
	}
	return seccomp.Program(rules, seccomp.Errno(unix.ENOSYS))
}

func argument(index int, mask, value uint32) *seccomp.Argument {
	return &seccomp.Argument{Index: index, Mask: mask, Value: value}
}
