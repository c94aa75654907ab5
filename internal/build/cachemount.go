package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"golang.org/x/sys/unix"

	"proot-distro/internal/build/layout"
	"proot-distro/internal/flock"
	"proot-distro/internal/layer"
	"proot-distro/internal/rootfs"
)

// cacheMounts holds the directories of --mount=type=cache, in the cache directory. Each has a lock of
// its name: shared for those who use it at the same time, exclusive for one who wants it alone.
const cacheMounts = "build_mounts"

// mountCache binds a directory that outlives the build.
func (s *stage) mountCache(ctx context.Context, root *rootfs.FS, p *mounted, m *mount) error {
	base, err := rootfs.OpenState(s.Host.Dirs.Runtime, s.Host.Dirs.Cache, true)
	if err != nil {
		return err
	}
	defer base.Close()
	if err := base.MkdirAll(cacheMounts, 0o755); err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(m.CacheID))
	name, lock, err := lockCache(ctx, base, path.Join(cacheMounts, hex.EncodeToString(sum[:8])), m.CacheSharing)
	if err != nil {
		return err
	}
	p.locks = append(p.locks, lock)
	if err := s.fillCache(ctx, base, name, m); err != nil {
		return err
	}
	dir := path.Join(name, relative(m.Source))
	if m.From != "" {
		dir = name
	}
	if err := base.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	hostPath := filepath.Join(s.Host.Dirs.Cache, dir)
	if m.UID != nil || m.GID != nil {
		if err := s.give(hostPath, m); err != nil {
			return err
		}
	}
	return p.put(root, m, hostPath, true)
}

// fillCache makes a cache's directory, with what from names if that is given.
func (s *stage) fillCache(ctx context.Context, base *rootfs.FS, name string, m *mount) error {
	if _, err := base.Lstat(name); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	mode := fs.FileMode(0o755)
	if m.Mode != nil {
		mode = fs.FileMode(*m.Mode) & fs.ModePerm
	}
	if err := base.MkdirAll(name, mode); err != nil || m.From == "" {
		return err
	}
	src, err := m.from.open(ctx)
	if err != nil {
		return err
	}
	b, err := src.Collect(ctx, relative(m.Source), nil)
	if err == nil {
		err = unpackBatch(ctx, b, filepath.Join(s.Host.Dirs.Cache, name))
	}
	if err != nil {
		return errors.Join(err, base.RemoveAll(name, rootfs.RemoveOptions{}))
	}
	return nil
}

// lockCache takes the lock of a cache, waiting for it unless a private one can be had
// under another name.
func lockCache(ctx context.Context, base *rootfs.FS, name string, sharing instructions.ShareMode) (string, *os.File, error) {
	how := unix.LOCK_SH
	if sharing == instructions.MountSharingLocked || sharing == instructions.MountSharingPrivate {
		how = unix.LOCK_EX
	}
	for n := 0; ; n++ {
		candidate := name
		if sharing == instructions.MountSharingPrivate && n > 0 {
			candidate += "-" + strconv.Itoa(n)
		}
		dir, file, err := base.Parent(candidate + lockSuffix)
		if err != nil {
			return "", nil, err
		}
		lock, err := dir.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
		dir.Close()
		if err != nil {
			return "", nil, err
		}
		held, err := flock.Try(lock, how)
		if held {
			return candidate, lock, nil
		}
		lock.Close()
		if err != nil {
			return "", nil, fmt.Errorf("lock cache: %w", err)
		}
		if sharing == instructions.MountSharingPrivate {
			continue
		}
		select {
		case <-ctx.Done():
			return "", nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// unpackBatch writes what a source brought into a directory of the host: a directory's content, or
// a file under its name.
func unpackBatch(ctx context.Context, b *layout.Batch, dir string) error {
	root, err := rootfs.Open(dir, rootfs.GuestLinks)
	if err != nil {
		return err
	}
	defer root.Close()
	l := layout.Layout{}
	d := &layout.Destination{Typed: "/", Path: "/", Slash: true, Root: root}
	if err := d.Place(l, b, layout.Owner{}); err != nil {
		return err
	}
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(l.Pack(ctx, pw, layout.Times{})) }()
	_, err = layer.Apply(ctx, root, pr, layer.Options{})
	pr.CloseWithError(errors.New("stopped"))
	return err
}
