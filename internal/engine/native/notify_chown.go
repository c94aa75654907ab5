package native

import (
	"math"

	"golang.org/x/sys/unix"

	"proot-distro/internal/seccomp"
)

// A chownCall is one of the calls that give files away, and how it takes its arguments.
type chownCall struct {
	numbers seccomp.Numbers
	form    chownForm
	short   bool // IDs have 16 bits
}

type chownForm int

const (
	byPath chownForm = iota // path, uid, gid
	byLink                  // likewise, but a link itself
	byFile                  // descriptor, uid, gid
	byDir                   // directory, path, uid, gid, flags
)

var chownCalls = []chownCall{
	{numbers: seccomp.Chown, form: byPath},
	{numbers: seccomp.Lchown, form: byLink},
	{numbers: seccomp.Fchown, form: byFile},
	{numbers: seccomp.Fchownat, form: byDir},
	{numbers: seccomp.Chown16, form: byPath, short: true},
	{numbers: seccomp.Lchown16, form: byLink, short: true},
	{numbers: seccomp.Fchown16, form: byFile, short: true},
}

// chownOf finds out which of them a call is.
func chownOf(arch, nr uint32) (chownCall, bool) {
	for _, c := range chownCalls {
		if c.numbers.Has(arch, nr) {
			return c, true
		}
	}
	return chownCall{}, false
}

// A gift is what a guest asks for: a file, and whom it is to belong to.
type gift struct {
	dir      int    // descriptor of the guest; AT_FDCWD
	path     uint64 // address of the path, unless the descriptor is the file
	flags    int    // of fchownat(2)
	uid, gid uint32
}

func (c chownCall) gift(args [6]uint64) gift {
	g := gift{dir: unix.AT_FDCWD}
	switch c.form {
	case byPath, byLink:
		g.path, g.uid, g.gid = args[0], uint32(args[1]), uint32(args[2])
		if c.form == byLink {
			g.flags = unix.AT_SYMLINK_NOFOLLOW
		}
	case byFile:
		g.dir, g.uid, g.gid = int(int32(args[0])), uint32(args[1]), uint32(args[2])
	case byDir:
		g.dir, g.path, g.uid, g.gid, g.flags = int(int32(args[0])), args[1], uint32(args[2]), uint32(args[3]), int(int32(args[4]))
	}
	if c.short {
		g.uid, g.gid = widened(g.uid), widened(g.gid)
	}
	return g
}

// widened reads an ID of 16 bits, of which the highest says "unchanged".
func widened(id uint32) uint32 {
	if id &= math.MaxUint16; id == math.MaxUint16 {
		return noID
	}
	return id
}

// chown notes a gift, and does all that the kernel does but for the owner itself: who
// looks for changes sees one, setuid bits and capabilities go.
func (a *answerer) chown(n *notification, c chownCall) error {
	g := c.gift(n.args)
	if g.flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 || strange(g.uid) || strange(g.gid) {
		return unix.EINVAL
	}
	if c.form == byFile && g.dir < 0 {
		return unix.EBADF
	}
	f := &finder{thread: int(n.pid)}
	defer f.close()
	file, err := f.find(g, c.form != byFile)
	if err != nil {
		return err
	}
	defer unix.Close(file)
	// The thread may have died, and its number may be another's by now.
	if err := a.isWaiting(n); err != nil {
		return err
	}
	before, err := examine(file, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return err
	}
	err = unix.Fchownat(file, "", -1, -1, unix.AT_EMPTY_PATH)
	if before.Mode&unix.S_IFMT == unix.S_IFCHR && (err == unix.EPERM || err == unix.EROFS) {
		return nil // a device of the host's
	}
	if err != nil {
		return err
	}
	after, err := examine(file, "", unix.AT_EMPTY_PATH)
	if err == nil {
		a.owners.give(idOf(before), idOf(after), g.uid, g.gid)
	}
	return err
}

// strange tells of IDs that no image has, and that not everybody reads.
func strange(id uint32) bool { return id > math.MaxInt32 && id != noID }
