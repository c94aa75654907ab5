package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"proot-distro/internal/flock"
	"proot-distro/internal/rootfs"
)

// ErrCached means that a blob needs no fetching: it is in the cache by now.
var ErrCached = errors.New("already cached")

// Partial is a blob on its way into the cache: sha256_<hex>.part, locked against other
// processes. Its methods are for one goroutine; only Reader's result is for others.
//
// The bytes of an earlier attempt are still there. Either Reset and write all, or
// Resume and write the rest. Write keeps the digest as it goes; bytes put into File
// directly are read once more by Commit.
type Partial struct {
	File *os.File

	dir    *rootfs.Dir
	name   string // of the finished blob
	want   v1.Descriptor
	sum    hash.Hash
	summed int64 // length of the prefix that sum covers
}

// lockPoll is how often a waiting process looks whether another one is done.
const lockPoll = 100 * time.Millisecond

// Partial opens the partial file of a blob. While another process works on the same blob
// it waits, after telling onWait once, if that is not nil; when that one succeeded the error is [ErrCached].
func (c *Cache) Partial(ctx context.Context, d v1.Descriptor, onWait func()) (*Partial, error) {
	name, err := blobName(d)
	if err != nil {
		return nil, fmt.Errorf("store blob: %w", err)
	}
	dir, err := c.dir(c.layers, true)
	if err != nil {
		return nil, err
	}
	for waited := false; ; waited = true {
		p, err := tryPartial(dir, name, d)
		if err == nil {
			return p, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			dir.Close()
			return nil, err
		}
		if !waited && onWait != nil {
			onWait()
		}
		select {
		case <-ctx.Done():
			dir.Close()
			return nil, context.Cause(ctx)
		case <-time.After(lockPoll):
		}
	}
}

// tryPartial fails with EWOULDBLOCK while another process holds the file.
func tryPartial(dir *rootfs.Dir, name string, d v1.Descriptor) (*Partial, error) {
	f, err := dir.OpenFile(name+".part", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store blob: %w", err)
	}
	p := &Partial{File: f, dir: dir, name: name, want: d}
	held, err := flock.Try(f, unix.LOCK_EX)
	if err == nil && !held {
		err = unix.EWOULDBLOCK
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock partial blob: %w", err)
	}
	if !p.current() {
		// The holder before us renamed or removed the file between our open and our lock.
		f.Close()
		return nil, unix.EWOULDBLOCK
	}
	if has(dir, name, d.Size) {
		_ = dir.Remove(name + ".part")
		f.Close()
		return nil, ErrCached
	}
	return p, nil
}

// current reports whether File is what the name stands for.
func (p *Partial) current() bool { return isNamed(p.File, p.dir, p.name+".part") }

// Reset drops what was fetched so far.
func (p *Partial) Reset() error {
	if err := p.File.Truncate(0); err != nil {
		return fmt.Errorf("store blob: %w", err)
	}
	if _, err := p.File.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("store blob: %w", err)
	}
	p.sum, p.summed = sha256.New(), 0
	return nil
}

// Resume reads the bytes of an earlier attempt and returns how many there are. More
// than the blob has means that they are not its beginning: they are dropped.
func (p *Partial) Resume() (int64, error) {
	info, err := p.File.Stat()
	if err != nil {
		return 0, fmt.Errorf("resume blob: %w", err)
	}
	if info.Size() > p.want.Size {
		return 0, p.Reset()
	}
	err = p.rehash()
	return p.summed, err
}

// rehash covers the whole file with sum.
func (p *Partial) rehash() error {
	if _, err := p.File.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read partial blob: %w", err)
	}
	p.sum = sha256.New()
	n, err := io.Copy(p.sum, p.File)
	if err != nil {
		return fmt.Errorf("read partial blob: %w", err)
	}
	p.summed = n
	return nil
}

// Write appends to what Reset or Resume left. It never writes more than the blob has.
func (p *Partial) Write(b []byte) (int, error) {
	if p.sum == nil {
		return 0, errors.New("store blob: neither reset nor resumed")
	}
	if int64(len(b)) > p.want.Size-p.summed {
		return 0, fmt.Errorf("store blob: more than the %d bytes of %s", p.want.Size, p.want.Digest)
	}
	n, err := p.File.WriteAt(b, p.summed)
	p.sum.Write(b[:n])
	p.summed += int64(n)
	if err != nil {
		return n, fmt.Errorf("store blob: %w", err)
	}
	return n, nil
}

// Reader returns another descriptor of the file, for use with ReadAt. It stays good
// after Commit and Close; the caller closes it.
func (p *Partial) Reader() (*os.File, error) {
	fd, err := unix.FcntlInt(p.File.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("read partial blob: %w", err)
	}
	return os.NewFile(uintptr(fd), p.File.Name()), nil
}

// Commit verifies the blob's size and digest and gives it its final name, which ends
// the Partial. After a [DigestError] the bytes are gone and the Partial can be written anew.
//
// Nothing is synced to disk: a blob that a power cut spoils is found out when it is read.
func (p *Partial) Commit() error {
	info, err := p.File.Stat()
	if err != nil {
		return fmt.Errorf("store blob: %w", err)
	}
	if p.sum == nil || p.summed != info.Size() {
		if err := p.rehash(); err != nil {
			return err
		}
	}
	got := string(digestOf(p.sum))
	if p.summed != p.want.Size {
		got = fmt.Sprintf("%d bytes instead of %d", p.summed, p.want.Size)
	}
	if got != string(p.want.Digest) {
		return errors.Join(&DigestError{What: "layer", Want: string(p.want.Digest), Got: got}, p.Reset())
	}
	if err := p.dir.Rename(p.name+".part", p.dir, p.name); err != nil {
		return fmt.Errorf("store blob: %w", err)
	}
	return p.release()
}

// Close ends the Partial and keeps its bytes for the next attempt. After Commit it
// does nothing.
func (p *Partial) Close() error {
	if p.File == nil {
		return nil
	}
	if info, err := p.File.Stat(); err == nil && info.Size() == 0 && p.current() {
		_ = p.dir.Remove(p.name + ".part")
	}
	return p.release()
}

// release unlocks explicitly, since Reader's descriptors share the lock.
func (p *Partial) release() error {
	_, err := flock.Try(p.File, unix.LOCK_UN)
	err = errors.Join(err, p.File.Close(), p.dir.Close())
	p.File = nil
	return err
}
