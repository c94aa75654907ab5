package image

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io/fs"
	"os"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"proot-distro/internal/flock"
	"proot-distro/internal/rootfs"
)

// unnamedPrefix begins the names of blobs whose digest is not known yet. They are named like
// partial blobs, with digests that nothing has, so that whoever cleans the cache knows them.
const unnamedPrefix = "sha256_0000000000000000"

// unnamed is a blob being made, locked as long as its maker lives.
type unnamed struct {
	dir  *rootfs.Dir
	name string
	f    *os.File
	sum  hash.Hash
	size int64
}

// newUnnamed begins a blob, and deletes those whose makers are dead.
func newUnnamed(dir *rootfs.Dir) (*unnamed, error) {
	if err := sweepUnnamed(dir); err != nil {
		return nil, err
	}
	for {
		var random [24]byte
		rand.Read(random[:])
		b := &unnamed{dir: dir, name: unnamedPrefix + hex.EncodeToString(random[:]) + ".part", sum: sha256.New()}
		var err error
		if b.f, err = dir.Create(b.name, 0o600); err != nil {
			return nil, err
		}
		ours, err := flock.Try(b.f, unix.LOCK_EX)
		if err != nil {
			return nil, errors.Join(err, b.close())
		}
		if ours && isNamed(b.f, dir, b.name) {
			return b, nil
		}
		b.f.Close() // taken for a dead one's before we had the lock
	}
}

// sweepUnnamed deletes blobs whose makers are dead.
func sweepUnnamed(dir *rootfs.Dir) error {
	entries, err := dir.ReadDir()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name, unnamedPrefix) || !strings.HasSuffix(e.Name, ".part") {
			continue
		}
		f, err := dir.Open(e.Name)
		if err != nil {
			continue // gone, or none of ours
		}
		if dead, _ := flock.Try(f, unix.LOCK_EX); dead {
			_ = dir.Remove(e.Name) // at worst it stays
		}
		f.Close()
	}
	return nil
}

func (b *unnamed) Write(p []byte) (int, error) {
	n, err := b.f.Write(p)
	b.sum.Write(p[:n])
	b.size += int64(n)
	return n, err
}

// commit gives the blob its name. One that is there already has the same bytes, or should have.
func (b *unnamed) commit(d v1.Descriptor) error {
	name, err := blobName(d)
	if err != nil {
		return err
	}
	if err := b.dir.Rename(b.name, b.dir, name); err != nil {
		return err
	}
	b.name = ""
	return nil
}

// close deletes the blob unless it was committed.
func (b *unnamed) close() error {
	var err error
	if b.name != "" {
		if err = b.dir.Remove(b.name); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	return errors.Join(err, b.f.Close())
}
