package native

import (
	"maps"
	"path"
	"slices"
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
}

type inode struct {
	dev, ino uint64
}

// fileID tells a file from another that has its inode number later. A birth of 0 is
// any: not all filesystems know it, and on overlayfs the first change gives a file a
// new one.
type fileID struct {
	inode
	birth int64 // nanoseconds since 1970
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
	o := &owners{files: make(map[inode]owned, len(spec.Features.Owners))}
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
		if id, _, err := identify(dir.Fd(), base, unix.AT_SYMLINK_NOFOLLOW); err == nil {
			if overlay {
				id.birth = 0
			}
			o.files[id.inode] = owned{Owner: spec.Features.Owners[name], birth: id.birth}
		}
	}
	if dir != nil {
		dir.Close()
	}
	return o, nil
}

// identify also tells the owner on disk. Flags are those of statx(2).
func identify(dir int, name string, flags int) (id fileID, uid uint32, err error) {
	var st unix.Statx_t
	if err := unix.Statx(dir, name, flags, unix.STATX_INO|unix.STATX_UID|unix.STATX_BTIME, &st); err != nil {
		return id, 0, err
	}
	id.inode = inode{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}
	if st.Mask&unix.STATX_BTIME != 0 {
		id.birth = st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
	}
	return id, st.Uid, nil
}

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
func (o *owners) owner(id fileID, before engine.Owner) engine.Owner {
	o.mu.Lock()
	defer o.mu.Unlock()
	f, ok := o.find(id)
	if ok && f.asFound {
		return before
	}
	return f.Owner // root if it was not found: it is new
}

// follows reports whether the process keeps an account of owners: where it is wanted, and
// where the guest's root may not have the kernel change them.
func (p *Process) follows() bool { return p.spec.Features.Owners != nil && p.maps.single && p.root() }

// OwnerAfter implements [engine.OwnerKeeper].
func (p *Process) OwnerAfter(dir int, name string, before engine.Owner) (engine.Owner, bool) {
	if p.owners == nil {
		return engine.Owner{}, false
	}
	id, _, err := identify(dir, name, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return engine.Owner{}, false
	}
	return p.owners.owner(id, before), true
}
