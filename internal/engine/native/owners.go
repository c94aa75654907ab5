package native

import (
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
	"proot-distro/internal/rootfs"
)

// owners is whom the files of a guest belong to, as far as the guest's root has given
// them away or engine.Features.Owners tells. On disk all of them are the caller's.
type owners struct {
	mu    sync.Mutex // a process that was killed may have left a call behind
	files map[inode]owned
	looks map[look]engine.Owner // of files that belonged to others before; root where they differ
}

type inode struct{ dev, ino uint64 }

// fileID tells a file from another that has its inode number later. A birth of 0 is
// any: not all filesystems know it, and on overlayfs the first change gives a file a
// new one.
type fileID struct {
	inode
	birth int64 // nanoseconds since 1970
}

// look is what a copy has in common with its original if it was made to, as by cp -a, or by mv for want of a rename.
type look struct {
	mode  uint16
	size  uint64 // of files
	mtime int64  // nanoseconds since 1970
	name  string // empty for any
}

type owned struct {
	engine.Owner
	birth int64
	// asFound says that root gave the file to root, to whom it seemed to belong already. A
	// program does so that replaces a file: the new one gets the owner that it sees the old
	// one have.
	asFound bool
}

// known looks up the files that belong to others before the guest starts. What is not
// there any more belongs to nobody.
func known(spec engine.Spec) (*owners, error) {
	o := &owners{files: make(map[inode]owned, len(spec.Features.Owners)), looks: map[look]engine.Owner{}}
	root, err := rootfs.Open(spec.Rootfs, rootfs.NoLinks)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var fs unix.Statfs_t
	overlay := unix.Statfs(spec.Rootfs, &fs) == nil && fs.Type == unix.OVERLAYFS_SUPER_MAGIC
	var dir *rootfs.Dir
	opened := ""
	for _, name := range slices.Sorted(maps.Keys(spec.Features.Owners)) {
		parent, base := path.Split(name)
		if dir == nil || parent != opened { // neighbours follow one another
			if dir != nil {
				dir.Close()
			}
			if dir, err = root.OpenDir(parent); err != nil {
				continue
			}
			opened = parent
		}
		if st, err := examine(dir.Fd(), base, unix.AT_SYMLINK_NOFOLLOW); err == nil {
			o.add(st, base, spec.Features.Owners[name], overlay)
		}
	}
	if dir != nil {
		dir.Close()
	}
	return o, nil
}

// add notes the owner of a file from before.
func (o *owners) add(st *unix.Statx_t, name string, who engine.Owner, overlay bool) {
	id := idOf(st)
	if overlay {
		id.birth = 0
	}
	o.files[id.inode] = owned{Owner: who, birth: id.birth}
	for _, l := range looksOf(st, name) {
		if other, ok := o.looks[l]; ok && other != who {
			o.looks[l] = engine.Owner{}
			continue
		}
		o.looks[l] = who
	}
}

// examine is statx(2) with flags.
func examine(dir int, name string, flags int) (*unix.Statx_t, error) {
	st := new(unix.Statx_t)
	return st, unix.Statx(dir, name, flags, unix.STATX_BASIC_STATS|unix.STATX_BTIME, st)
}

func idOf(st *unix.Statx_t) fileID {
	id := fileID{inode: inode{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}}
	if st.Mask&unix.STATX_BTIME != 0 {
		id.birth = nanoseconds(st.Btime)
	}
	return id
}

// looksOf gives a file's look, with its name and without. In layers, where times are of whole seconds, many files have
// the same, and the name counts, but not what a backup has at its end: "shadow-", "text~".
func looksOf(st *unix.Statx_t, name string) []look {
	l := look{mode: st.Mode, mtime: nanoseconds(st.Mtime), name: strings.TrimRight(name, "-~")}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		l.size = st.Size
	}
	if st.Mtime.Nsec == 0 {
		return []look{l}
	}
	return []look{l, {mode: l.mode, size: l.size, mtime: l.mtime}}
}

func nanoseconds(t unix.StatxTimestamp) int64 { return t.Sec*1e9 + int64(t.Nsec) }

func (o *owners) find(id fileID) (owned, bool) {
	f, ok := o.files[id.inode]
	if !ok || f.birth != id.birth && f.birth != 0 && id.birth != 0 {
		return owned{}, false
	}
	return f, true
}

// noID is what chown(2) takes for "unchanged".
const noID = ^uint32(0)

// give notes that a file has a new owner. The change may have given it another birth.
func (o *owners) give(before, after fileID, uid, gid uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f, ok := o.find(before)
	if !ok {
		f = owned{asFound: true}
	}
	f.birth = after.birth
	if uid != noID {
		f.UID = int(uid)
	}
	if gid != noID {
		f.GID = int(gid)
	}
	f.asFound = f.asFound && f.Owner == engine.Owner{}
	o.files[after.inode] = f
}

// owner tells whose the file of a path is, of which is known whose it was before.
func (o *owners) owner(st *unix.Statx_t, name string, before engine.Owner) engine.Owner {
	o.mu.Lock()
	defer o.mu.Unlock()
	f, ok := o.find(idOf(st))
	switch {
	case ok && !f.asFound:
		return f.Owner
	case ok && before != (engine.Owner{}):
		return before
	}
	for _, l := range looksOf(st, name) {
		if who, ok := o.looks[l]; ok {
			return who
		}
	}
	return engine.Owner{} // it is new
}

// follows reports whether the process keeps an account of owners: where it is wanted, and
// where the guest's root may not have the kernel change them.
func (p *Process) follows() bool { return p.spec.Features.Owners != nil && p.maps.single && p.root() }

// OwnerAfter implements [engine.OwnerKeeper].
func (p *Process) OwnerAfter(dir int, name string, before engine.Owner) (engine.Owner, bool) {
	if p.owners == nil {
		return engine.Owner{}, false
	}
	st, err := examine(dir, name, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return engine.Owner{}, false
	}
	return p.owners.owner(st, path.Base(name), before), true
}
