package build

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"proot-distro/internal/flock"
	"proot-distro/internal/host"
	"proot-distro/internal/rootfs"
)

// scratch is a directory of this build, below build/ in the state directory, made when it is first
// needed. The lock of its name lives as long as the process.
type scratch struct {
	dirs host.Dirs
	base *rootfs.FS // the state directory
	name string     // "build/<id>" in base
	lock *os.File
	next int

	trees []*rootfs.FS // to be closed
}

const (
	scratchDir = "build"
	lockSuffix = ".lock"
)

func newScratch(dirs host.Dirs) *scratch { return &scratch{dirs: dirs} }

// dir makes an empty directory and gives its host path.
func (s *scratch) dir(kind string) (string, error) {
	if err := s.open(); err != nil {
		return "", fmt.Errorf("create scratch directory: %w", err)
	}
	s.next++
	name := path.Join(s.name, kind+"-"+strconv.Itoa(s.next))
	if err := s.base.MkdirAll(name, 0o755); err != nil {
		return "", fmt.Errorf("create scratch directory: %w", err)
	}
	return filepath.Join(s.dirs.Runtime, name), nil
}

// tree is dir, opened as a root filesystem until the build ends.
func (s *scratch) tree(kind string) (*rootfs.FS, error) {
	dir, err := s.dir(kind)
	if err != nil {
		return nil, err
	}
	root, err := rootfs.Open(dir, rootfs.GuestLinks)
	if err != nil {
		return nil, err
	}
	s.trees = append(s.trees, root)
	return root, nil
}

// remove deletes what dir gave.
func (s *scratch) remove(hostPath string) error {
	return s.base.RemoveAll(path.Join(s.name, filepath.Base(hostPath)), rootfs.RemoveOptions{})
}

func (s *scratch) open() error {
	if s.base != nil {
		return nil
	}
	if err := os.MkdirAll(s.dirs.Runtime, 0o755); err != nil {
		return err
	}
	base, err := rootfs.Open(s.dirs.Runtime, rootfs.NoLinks)
	if err != nil {
		return err
	}
	if err := base.MkdirAll(scratchDir, 0o755); err != nil {
		return errors.Join(err, base.Close())
	}
	dir, err := base.OpenDir(scratchDir)
	if err != nil {
		return errors.Join(err, base.Close())
	}
	defer dir.Close()
	id, lock, err := claim(dir)
	if err != nil {
		return errors.Join(err, base.Close())
	}
	s.base, s.name, s.lock = base, path.Join(scratchDir, id), lock
	return base.MkdirAll(s.name, 0o755)
}

// claim takes the lock of a new name.
func claim(dir *rootfs.Dir) (id string, lock *os.File, err error) {
	for range 10 {
		id = strings.ToLower(rand.Text()[:12])
		lock, err = dir.OpenFile(id+lockSuffix, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return "", nil, err
		}
		var st unix.Stat_t
		ours, err := flock.Try(lock, unix.LOCK_EX)
		if err == nil {
			err = unix.Fstat(int(lock.Fd()), &st)
		}
		if err == nil && ours && st.Nlink > 0 { // not swept between open and lock
			return id, lock, nil
		}
		lock.Close()
	}
	return "", nil, errors.New("the directory is swept faster than it can be used")
}

// Sweep deletes what killed builds left below the state directory, and tells how many bytes that were.
func Sweep(dirs host.Dirs) (freed int64) {
	base, err := rootfs.Open(dirs.Runtime, rootfs.NoLinks)
	if err != nil {
		return 0 // nothing was ever built
	}
	defer base.Close()
	dir, err := base.OpenDir(scratchDir)
	if err != nil {
		return 0
	}
	defer dir.Close()
	entries, err := dir.ReadDir()
	if err != nil {
		return 0
	}
	for _, e := range entries {
		freed += sweep(base, dir, e)
	}
	return freed
}

// sweep deletes what a killed build left. What cannot be deleted stays for the next time.
func sweep(base *rootfs.FS, dir *rootfs.Dir, e rootfs.Entry) (freed int64) {
	id := strings.TrimSuffix(e.Name, lockSuffix)
	lock, err := dir.OpenFile(id+lockSuffix, os.O_RDWR, 0)
	if err != nil && (!errors.Is(err, fs.ErrNotExist) || !e.Type.IsDir()) {
		return 0
	}
	if err == nil {
		defer lock.Close()
		if dead, _ := flock.Try(lock, unix.LOCK_EX); !dead {
			return 0
		}
	}
	size := base.Size(path.Join(scratchDir, id))
	if dir.RemoveAll(id, rootfs.RemoveOptions{}) != nil && e.Type.IsDir() {
		return 0
	}
	if lock != nil {
		_ = dir.Remove(id + lockSuffix)
	}
	return size
}

func (s *scratch) close() error {
	if s.base == nil {
		return nil
	}
	var err error
	for _, tree := range s.trees {
		err = errors.Join(err, tree.Close())
	}
	err = errors.Join(err, s.base.RemoveAll(s.name, rootfs.RemoveOptions{}))
	if err == nil {
		err = s.base.Remove(s.name + lockSuffix)
	}
	err = errors.Join(err, s.lock.Close(), s.base.Close())
	s.base = nil
	if err != nil {
		return fmt.Errorf("remove scratch directory: %w", err)
	}
	return nil
}
