package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"proot-distro/internal/host"
	"proot-distro/internal/rootfs"
)

// placeFacts are what a directory of ours, or its place where it does not exist yet,
// turned out to allow.
type placeFacts struct {
	Name       string `json:"-"`
	Path       string `json:"path"`
	Exists     bool   `json:"exists"`
	FileSystem string `json:"file_system"`
	Free       uint64 `json:"free_bytes"` // for this user
	Writable   bool   `json:"writable"`
	Programs   bool   `json:"programs"` // can be run from there
	HardLinks  bool   `json:"hard_links"`
	SymLinks   bool   `json:"symbolic_links"`
	Modes      bool   `json:"modes"` // permissions are kept
	CaseCounts bool   `json:"case_counts"`
	Reflinks   bool   `json:"reflinks"` // copies that take no space
	Xattrs     bool   `json:"xattrs"`   // user.*

	err error
}

// lookAtPlace makes files of every kind in dir, or in the nearest directory above that exists,
// and deletes them.
func lookAtPlace(h *host.Host, name, dir string) placeFacts {
	f := placeFacts{Name: name, Path: dir, Exists: true}
	tree, err := rootfs.OpenState(h.Dirs.Runtime, dir, false)
	for above := dir; errors.Is(err, fs.ErrNotExist) && above != "/"; {
		f.Exists = false
		above = filepath.Dir(above)
		tree, err = rootfs.Open(above, rootfs.NoLinks)
	}
	if err != nil {
		f.err = err
		return f
	}
	defer tree.Close()
	at, err := tree.OpenDir(".")
	if err != nil {
		f.err = err
		return f
	}
	defer at.Close()
	f.measure(at)
	f.err = f.try(at, h)
	return f
}

// measure asks for the file system and its room.
func (f *placeFacts) measure(at *rootfs.Dir) {
	var st unix.Statfs_t
	if unix.Fstatfs(at.Fd(), &st) != nil {
		return
	}
	f.Free = uint64(st.Bavail) * uint64(st.Bsize)
	f.FileSystem = fileSystems[uint32(st.Type)]
	if f.FileSystem == "" {
		f.FileSystem = fmt.Sprintf("0x%x", uint32(st.Type))
	}
}

// fileSystems are the names of f_type in statfs(2).
var fileSystems = map[uint32]string{
	unix.EXT4_SUPER_MAGIC: "ext4", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.XFS_SUPER_MAGIC: "xfs", unix.TMPFS_MAGIC: "tmpfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.F2FS_SUPER_MAGIC: "f2fs", unix.NFS_SUPER_MAGIC: "nfs", unix.FUSE_SUPER_MAGIC: "fuse",
	unix.V9FS_MAGIC: "9p", unix.MSDOS_SUPER_MAGIC: "vfat", unix.EXFAT_SUPER_MAGIC: "exfat", unix.RAMFS_MAGIC: "ramfs",
	unix.ECRYPTFS_SUPER_MAGIC: "ecryptfs", unix.CEPH_SUPER_MAGIC: "ceph", unix.SMB2_SUPER_MAGIC: "smb", unix.CIFS_SUPER_MAGIC: "cifs",
	0x2fc12fc1: "zfs", 0xca451a4e: "bcachefs", 0x7366746e: "ntfs3", 0x5dca2df5: "sdcardfs",
}

// try makes a directory, uses it, and deletes it.
func (f *placeFacts) try(at *rootfs.Dir, h *host.Host) (err error) {
	name := ".pd-doctor-" + strconv.Itoa(os.Getpid())
	if err := at.Mkdir(name, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, at.RemoveAll(name, rootfs.RemoveOptions{})) }()
	dir, err := at.OpenDir(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	file, err := dir.Create("File", 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Write(tinyProgram(h.Arch)); err != nil {
		return err
	}
	f.Writable = true
	_, err = dir.Lstat("fILE")
	f.CaseCounts = err != nil
	f.HardLinks = dir.Link("File", dir, "link") == nil
	f.SymLinks = dir.Symlink("File", "symlink") == nil
	f.Xattrs = unix.Fsetxattr(int(file.Fd()), "user.pd", []byte("x"), 0) == nil
	f.Modes = keepsModes(dir)
	f.Reflinks = clones(dir, file)
	f.Programs = runs(dir, h)
	return nil
}

func keepsModes(dir *rootfs.Dir) bool {
	for _, mode := range []fs.FileMode{0o700, 0o640} {
		if dir.Chmod("File", mode) != nil {
			return false
		}
		if info, err := dir.Lstat("File"); err != nil || info.Mode.Perm() != mode {
			return false
		}
	}
	return true
}

func clones(dir *rootfs.Dir, file *os.File) bool {
	clone, err := dir.Create("clone", 0o600)
	if err != nil {
		return false
	}
	defer clone.Close()
	return unix.IoctlFileClone(int(clone.Fd()), int(file.Fd())) == nil
}

// runs tries a program that is written anew: one that is open for writing does not run.
func runs(dir *rootfs.Dir, h *host.Host) bool {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		return true // cannot be tried without links, and there are greater worries
	}
	if dir.WriteFile("program", tinyProgram(h.Arch), 0o700) != nil {
		return false
	}
	_, err := runTrial(fmt.Sprintf("/proc/self/fd/%d/program", dir.Fd()))
	return err == nil
}
