// Package engine defines how a container's command is run: a [Spec] in, a
// process out.
//
// A Spec is plain data and says nothing of proot or of namespaces. Each
// subpackage is one way to serve it. An engine never ignores a field of a Spec
// silently: what it cannot do is an [Unsupported] error. The [Features] alone are
// defaults, which an engine gives as far as it has them.
package engine

import (
	"context"
	"fmt"
	"io"
	"os"

	"proot-distro/internal/platform"
)

// Spec describes one process in a container.
type Spec struct {
	Container string // name, for messages and hostnames
	Rootfs    string // host path of the root filesystem
	Argv      []string
	Env       []string // KEY=VALUE, the guest's whole environment
	WorkDir   string   // guest path, absolute
	User      User
	// AllIDs says that the files of the rootfs have owners, and that users of the guest are
	// who they say they are. Without it all files are root's, and whichever user a guest has
	// is root under another name.
	AllIDs bool
	Binds  []Bind

	// Shell is the guest path of a POSIX shell, for engines that need one beside
	// Argv to learn how it ended (128+N for signal N). Leave it empty where none is
	// known, and where Argv is an interactive shell that should own this process.
	Shell string

	// Hostname and KernelRelease are what uname(2) tells the guest; empty
	// keeps the engine's default.
	Hostname      string
	KernelRelease string
	// RedirectPorts moves privileged ports 1..1023 up by 2000.
	RedirectPorts bool

	// Tmpfs are empty temporary filesystems, mounted below the binds.
	Tmpfs []Tmpfs
	// ReadOnly protects the root filesystem itself; binds and Tmpfs are not part of it.
	ReadOnly bool
	// NoNetwork leaves the guest a loopback device of its own only.
	NoNetwork bool

	// Arch is the guest's architecture and HostArch the machine's.
	Arch, HostArch platform.Arch
	// Emulator is the host path of a user-mode emulator; empty when the CPU
	// runs the guest itself.
	Emulator string

	Features Features
	// Silent says that variables of this program's own environment do not make an engine
	// talk, as PROOT_VERBOSE does.
	Silent bool
}

// Features make up for what the kernels and policies of Android lack. Nobody asked
// for them, so an engine leaves out those that it does not have, and those that its
// kernel does itself.
type Features struct {
	// HardLinks stands symbolic links in for hard ones (see package l2s); LinkDir is the
	// host path of the directory that keeps the files.
	HardLinks bool
	LinkDir   string
	// LinkSizes lets lstat(2) tell the sizes of link targets as the guest sees them.
	LinkSizes bool
	// SysVIPC serves the calls of sysvipc(7).
	SysVIPC bool
	// KillOnExit ends what the command left in the background.
	KillOnExit bool
	// Uname lets uname(2) tell of a recent kernel, and of "localhost", where Spec does
	// not say otherwise.
	Uname bool
	// Owners, if it is not nil, asks an engine to keep account of the files that the guest's
	// root gives away (see [OwnerKeeper]), although on disk all files are this process's
	// user's. It tells which of them do not belong to root, by guest path without links.
	Owners map[string]Owner
}

// Owner is whom a file belongs to.
type Owner struct{ UID, GID int }

// An OwnerKeeper is a [Process] that may have kept account of owners.
type OwnerKeeper interface {
	// OwnerAfter tells, after Run, whom the entry name of an open directory belongs to; before
	// is whom an entry of that name belonged to before. It reports false if it does not know.
	OwnerAfter(dir int, name string, before Owner) (Owner, bool)
}

// AptConfig is where an engine may show a guest a file of its own, if it has the directory: apt, which fetches as another
// user, learns from it that there is none. As with /dev, /proc and /sys, what is left of it is a mount point.
const AptConfig = "/etc/apt/apt.conf.d/99proot-distro-native"

// What a guest of Features.Uname is told.
const (
	DefaultRelease  = "6.17.0-PRoot-Distro"
	DefaultVersion  = "#1 SMP PREEMPT_DYNAMIC Fri, 10 Oct 2025 00:00:00 +0000"
	DefaultNodename = "localhost"
)

// User is the identity that the guest sees.
type User struct {
	UID, GID int
	Groups   []int // supplementary
	Real     bool  // nothing is pretended: the guest has the identity of this process
}

// Bind makes a host path visible in the guest.
type Bind struct {
	Source   string // host path, absolute
	Target   string // guest path, absolute
	ReadOnly bool
	// Pending says that the source is made right before the process starts.
	Pending bool
}

// Tmpfs is a temporary filesystem, empty when the process starts.
type Tmpfs struct {
	Target string // guest path, absolute
	Mode   uint32 // permissions of its root
	Size   int64  // bytes that it may hold; 0 leaves the limit to the kernel
}

// Stdio is where a child's streams go. Nil means /dev/null.
type Stdio struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// An Engine turns Specs into processes.
type Engine interface {
	// Name is what --engine calls it.
	Name() string
	// Prepare checks that the engine can serve the whole Spec.
	Prepare(Spec) (Process, error)
}

// A Process is a prepared command that has not been started.
type Process interface {
	// Exec gives the terminal and this process to the guest and returns only
	// when it could not be started, or with the guest's exit status if the
	// engine must stay behind as its parent. Files in keep stay open in the
	// process that lives as long as the guest does.
	Exec(keep []*os.File) (status int, err error)
	// Run runs the guest as a child and returns its exit status, 128+N when
	// signal N killed it.
	Run(ctx context.Context, stdio Stdio) (status int, err error)
}

// Unsupported says that an engine cannot do what the user asked for.
type Unsupported struct {
	Engine string // "proot 5.1.0"
	Option string // "--hostname"
	Fix    string // what to do, one clause
}

func (e *Unsupported) Error() string {
	return fmt.Sprintf("%s cannot do %s: %s", e.Engine, e.Option, e.Fix)
}
