// Package container is the store of containers: names, locks, the manifest
// record and running sessions.
package container

import (
	"os"
	"time"

	"proot-distro/internal/host"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/rootfs"
)

// Store is the collection of containers below host.Dirs.
type Store struct{}

func NewStore(dirs host.Dirs) *Store { panic("") }

// Names lists containers (directories under containers/ with a rootfs/, valid name), sorted.
func (s *Store) Names() ([]string, error) { panic("") }

// LockMode is Shared or Exclusive.
type LockMode int

const (
	Shared LockMode = iota
	Exclusive
)

// BusyError: another process holds the lock.
type BusyError struct {
	Name    string
	PID     int      // 0 when unknown
	Command string   // "login"
	Mode    LockMode // what was wanted
}

func (e *BusyError) Error() string { panic("") }

// ErrNotFound: no such container. ErrExists: name taken.
type NotFoundError struct{ Name string }

func (e *NotFoundError) Error() string { panic("") }

type ExistsError struct{ Name string }

func (e *ExistsError) Error() string { panic("") }

func ValidateName(name string) error { panic("") }

// Open locks an existing container. command is written in the lock file.
func (s *Store) Open(name string, mode LockMode, command string) (*Container, error) { panic("") }

// Create locks a name that is not taken and gives an uncommitted container in staging.
func (s *Store) Create(name, command string) (*Container, error) { panic("") }

// Container is a locked container; Close releases the lock (and deletes it if it was created and not committed).
type Container struct{ Name string }

func (c *Container) Close() error                        { panic("") }
func (c *Container) RootfsPath() string                  { panic("") } // host path
func (c *Container) Dir() string                         { panic("") } // host path of containers/<name> (or of the staging dir)
func (c *Container) Rootfs() (*rootfs.FS, error)         { panic("") } // GuestLinks
func (c *Container) Record() (*oci.Record, error)        { panic("") } // fs.ErrNotExist when there is none
func (c *Container) SetRecord(r *oci.Record) error       { panic("") }
func (c *Container) Commit() error                       { panic("") } // Create'd only: atomic rename into containers/
func (c *Container) LockFile() *os.File                  { panic("") } // to be kept open across exec
func (c *Container) Remove(o rootfs.RemoveOptions) error { panic("") } // Exclusive only: renames aside into staging, then deletes

// Session is a running login or run.
type Session struct {
	PID       int           `json:"pid"`
	Container string        `json:"container"`
	Command   []string      `json:"command"`
	Engine    string        `json:"engine"`
	Arch      platform.Arch `json:"arch"`
	User      string        `json:"user"`
	Detached  bool          `json:"detached"`
	Started   time.Time     `json:"started"`
}

// Register writes sessions/<pid>.json and returns the flocked file, to be kept open as long as the guest lives.
func (s *Store) Register(sess Session) (*os.File, error) { panic("") }

// Sessions lists those alive and deletes the files of dead ones.
func (s *Store) Sessions() ([]Session, error) { panic("") }
