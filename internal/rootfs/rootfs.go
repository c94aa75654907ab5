// Package rootfs gives safe access to a directory tree that a stranger
// controls: a container's root filesystem, or our own state directories where a
// guest can write to them.
package rootfs

import (
	"errors"
	"io/fs"
	"os"
	"time"
)

// Links says what a tree's symbolic links mean on the way to a file.
type Links int

const (
	// GuestLinks follows links as a process chrooted into the tree would:
	// absolute targets restart at the tree's root and ".." stops there.
	GuestLinks Links = iota
	// NoLinks refuses any link on the way: for state directories, where we
	// make none.
	NoLinks
)

// ErrUnsafe wraps refusals to touch an entry that is not what it must be: a
// link in a NoLinks tree, a FIFO or a device in the place of a file.
var ErrUnsafe = errors.New("unsafe file")

// FS is an open tree. All names are slash-separated, relative to the tree's root
// (a leading slash is allowed), and are never resolved by the host's rules.
type FS struct{}

func Open(dir string, links Links) (*FS, error)                          { panic("") }
func (t *FS) Close() error                                               { panic("") }
func (t *FS) Path() string                                               { panic("") } // host path of the root
func (t *FS) Resolve(name string) (string, error)                        { panic("") } // guest path w/o links, "/usr/bin/bash"
func (t *FS) Stat(name string) (Info, error)                             { panic("") } // follows
func (t *FS) Lstat(name string) (Info, error)                            { panic("") } // final link not followed
func (t *FS) Open(name string) (*os.File, error)                         { panic("") } // regular files only, never blocks
func (t *FS) ReadFile(name string, limit int64) ([]byte, error)          { panic("") }
func (t *FS) WriteFile(name string, data []byte, perm fs.FileMode) error { panic("") } // atomic: temp + rename in the resolved parent; final link replaced, not followed
func (t *FS) ReadDir(name string) ([]Entry, error)                       { panic("") }
func (t *FS) Readlink(name string) (string, error)                       { panic("") }
func (t *FS) Mkdir(name string, perm fs.FileMode) error                  { panic("") }
func (t *FS) MkdirAll(name string, perm fs.FileMode) error               { panic("") }
func (t *FS) Remove(name string) error                                   { panic("") }
func (t *FS) RemoveAll(name string, o RemoveOptions) error               { panic("") } // chmod-000-proof, stays on the tree
func (t *FS) OpenDir(name string) (*Dir, error)                          { panic("") } // follows
func (t *FS) Parent(name string) (*Dir, string, error)                   { panic("") } // dir of the last component, and that component

type RemoveOptions struct {
	OnRemove func(path string) // each removed entry, when not nil
}

type Info struct {
	Mode            fs.FileMode // Go's form, setuid etc. included
	Size            int64
	MTime           time.Time
	Dev, Ino, Nlink uint64
	UID, GID        int
}

type Entry struct {
	Name string
	Type fs.FileMode
}

// Dir is an open directory. Its names are single components, and no link is ever followed.
type Dir struct{}

func (d *Dir) Close() error                                                       { panic("") }
func (d *Dir) OpenDir(name string) (*Dir, error)                                  { panic("") }
func (d *Dir) Open(name string) (*os.File, error)                                 { panic("") } // O_RDONLY regular only
func (d *Dir) OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) { panic("") } // O_NOFOLLOW|O_NONBLOCK|O_CLOEXEC added; result must be regular
func (d *Dir) Create(name string, perm fs.FileMode) (*os.File, error)             { panic("") } // O_EXCL
func (d *Dir) Lstat(name string) (Info, error)                                    { panic("") }
func (d *Dir) Readlink(name string) (string, error)                               { panic("") }
func (d *Dir) Symlink(target, name string) error                                  { panic("") }
func (d *Dir) Link(name string, to *Dir, newname string) error                    { panic("") }
func (d *Dir) Mkdir(name string, perm fs.FileMode) error                          { panic("") }
func (d *Dir) Remove(name string) error                                           { panic("") }
func (d *Dir) RemoveAll(name string, o RemoveOptions) error                       { panic("") }
func (d *Dir) Rename(name string, to *Dir, newname string) error                  { panic("") }
func (d *Dir) Chmod(name string, mode fs.FileMode) error                          { panic("") } // not through links
func (d *Dir) Chtimes(name string, mtime time.Time) error                         { panic("") } // the link itself
func (d *Dir) ReadDir() ([]Entry, error)                                          { panic("") }
