package container

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"time"

	"proot-distro/internal/oci"
	"proot-distro/internal/rootfs"
)

// Container is a locked container. One from [Store.Create] or [Container.Recreate]
// is a draft: it lies in staging until Commit.
type Container struct {
	Name string

	state       *state
	lock        *os.File // nil once closed
	mode        LockMode
	dir         string     // relative to the state directory
	uncommitted bool       // a draft that was not committed
	unfinished  error      // why a move could not be finished, so that its hard links are broken
	replaces    *Container // the draft's predecessor, who owns lock and state; nil for Create
}

// Close releases the lock. Of a draft it first deletes what must not stay: the
// draft itself when it was not committed, else the container whose place it took.
func (c *Container) Close() error {
	if c.lock == nil {
		return nil
	}
	var tidied error
	if c.dir == c.state.draft(c.Name) || c.replaces != nil {
		tidied = c.state.tidy(c.Name)
	}
	lock := c.lock
	c.lock = nil
	if c.replaces != nil {
		return tidied
	}
	return errors.Join(tidied, lock.Close(), c.state.Close())
}

// Dir is the host path of containers/<name>, or of the draft in staging.
func (c *Container) Dir() string {
	return filepath.Join(c.state.dirs.Runtime, filepath.FromSlash(c.dir))
}

// RootfsPath is the host path of the root filesystem.
func (c *Container) RootfsPath() string { return filepath.Join(c.Dir(), "rootfs") }

// Rootfs opens the root filesystem. Links in it mean what they mean to the guest.
func (c *Container) Rootfs() (*rootfs.FS, error) {
	if c.unfinished != nil {
		return nil, c.unfinished
	}
	tree, err := c.state.Sub(path.Join(c.dir, "rootfs"), rootfs.GuestLinks)
	if err != nil {
		return nil, c.state.failed("open the root filesystem of", c.Name, err)
	}
	return tree, nil
}

// Own opens a directory of ours beside the root filesystem, made when it is missing: for
// what one container's guests need of the host.
func (c *Container) Own(name string) (*rootfs.FS, error) {
	dir := path.Join(c.dir, name)
	err := c.state.MkdirAll(dir, 0o700)
	var tree *rootfs.FS
	if err == nil {
		tree, err = c.state.Sub(dir, rootfs.NoLinks)
	}
	if err != nil {
		return nil, c.state.failed("make a directory of", c.Name, err)
	}
	return tree, nil
}

// LockFile is the open lock. The engine keeps it open in the guest's processes, so
// that the container stays in use as long as one of them lives.
func (c *Container) LockFile() *os.File { return c.lock }

func (c *Container) recordName() string { return path.Join(c.dir, "manifest.json") }

// Record reads manifest.json; fs.ErrNotExist when there is none, as after a
// plain-tarball install.
func (c *Container) Record() (*oci.Record, error) {
	data, err := c.state.ReadFile(c.recordName(), oci.MaxRecordSize)
	if err != nil {
		return nil, c.state.failed("read manifest.json of", c.Name, err)
	}
	record, err := oci.ParseRecord(data)
	if err != nil {
		return nil, c.state.failed("read manifest.json of", c.Name, err)
	}
	return record, nil
}

// RecordTime tells when manifest.json was written.
func (c *Container) RecordTime() (time.Time, error) {
	info, err := c.state.Lstat(c.recordName())
	if err != nil {
		return time.Time{}, c.state.failed("look at manifest.json of", c.Name, err)
	}
	return info.MTime, nil
}

// SetRecord writes manifest.json atomically.
func (c *Container) SetRecord(r *oci.Record) error {
	data, err := r.Encode()
	if err == nil {
		err = c.state.WriteFile(c.recordName(), data, 0o600)
	}
	if err != nil {
		return c.state.failed("write manifest.json of", c.Name, err)
	}
	return nil
}

// Recreate gives a draft that takes the place of c when it is committed. Until
// then c stays as it is; it keeps the lock, and is closed after the draft. It
// must have been opened exclusively.
func (c *Container) Recreate() (*Container, error) {
	if c.mode != Exclusive || c.uncommitted {
		return nil, fmt.Errorf("recreate container %q: it is not locked exclusively", c.Name)
	}
	if err := c.state.makeDraft(c.Name); err != nil {
		return nil, err
	}
	return &Container{
		Name: c.Name, state: c.state, lock: c.lock, mode: Exclusive,
		dir: c.state.draft(c.Name), uncommitted: true, replaces: c,
	}, nil
}

// Commit moves a draft to its place. The lock stays held, so that the caller can
// go on with the container.
func (c *Container) Commit() error {
	if !c.uncommitted {
		return fmt.Errorf("commit container %q: it is not a draft", c.Name)
	}
	t, home, aside := c.state, c.state.home(c.Name), c.state.aside(c.Name)
	if c.replaces != nil {
		if err := t.move(home, aside); err != nil {
			return t.failed("commit", c.Name, err)
		}
	}
	if err := t.move(c.dir, home); err != nil {
		if c.replaces != nil {
			err = errors.Join(err, t.move(aside, home))
		}
		return t.failed("commit", c.Name, err)
	}
	c.dir, c.uncommitted = home, false
	return nil
}

// Remove deletes a container that was opened exclusively. From its first moment on
// the container is gone for everyone else; when the process is killed on the
// way, or o.Stop ends it, [Store.Sweep] deletes the rest. o.OnRemove is told paths below the container's
// directory: /rootfs/etc/passwd.
func (c *Container) Remove(o rootfs.RemoveOptions) error {
	if c.mode != Exclusive || c.uncommitted {
		return fmt.Errorf("remove container %q: it is not locked exclusively", c.Name)
	}
	if err := c.state.discard(c.Name, c.dir, o); err != nil {
		return c.state.failed("remove", c.Name, err)
	}
	return nil
}
