package image

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/internal/flock"
	"proot-distro/internal/rootfs"
)

// Upload remembers how far a blob on its way to a registry has come, so that a later push goes on
// there: a small file, locked by the process that sends the blob. It is a convenience, with which
// nothing fails. The methods of nil do nothing.
type Upload struct {
	dir  *rootfs.Dir
	name string
	file *os.File
}

const (
	uploadsDir   = "uploads"
	uploadSuffix = ".json"
	maxUpload    = 16 << 10
	// uploadLife is how long registries keep what was not completed: Docker's for a week.
	uploadLife = 7 * 24 * time.Hour
)

// Upload opens what is remembered under a key. It is nil while another process sends the blob, and
// where the cache cannot be written to.
func (c *Cache) Upload(key string) *Upload {
	dir, err := c.dir(uploadsDir, true)
	if err != nil {
		return nil
	}
	sweepUploads(dir)
	sum := sha256.Sum256([]byte(key))
	u := &Upload{dir: dir, name: hex.EncodeToString(sum[:16]) + uploadSuffix}
	u.file, err = dir.OpenFile(u.name, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		ours, err := flock.Try(u.file, unix.LOCK_EX)
		if err == nil && ours && isNamed(u.file, dir, u.name) {
			return u
		}
		u.file.Close()
	}
	dir.Close()
	return nil
}

// sweepUploads forgets what registries have forgotten.
func sweepUploads(dir *rootfs.Dir) {
	entries, err := dir.ReadDir()
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := dir.Lstat(e.Name)
		if err == nil && strings.HasSuffix(e.Name, uploadSuffix) && time.Since(info.MTime) > uploadLife {
			_ = dir.Remove(e.Name)
		}
	}
}

// Read gives what was written last, nil when that is nothing.
func (u *Upload) Read() []byte {
	if u == nil {
		return nil
	}
	data, err := io.ReadAll(io.NewSectionReader(u.file, 0, maxUpload))
	if err != nil || len(data) == 0 {
		return nil
	}
	return data
}

// Write replaces what is remembered. A kill in between leaves something that makes no sense.
func (u *Upload) Write(data []byte) {
	if u == nil || len(data) > maxUpload {
		return
	}
	if _, err := u.file.WriteAt(data, 0); err == nil {
		_ = u.file.Truncate(int64(len(data)))
	}
}

// Forget ends the Upload: there is nothing to go on with.
func (u *Upload) Forget() {
	if u != nil && u.file != nil {
		_ = u.dir.Remove(u.name)
	}
	u.Close()
}

// Close ends the Upload and keeps what was written. After Forget it does nothing.
func (u *Upload) Close() {
	if u == nil || u.file == nil {
		return
	}
	if info, err := u.file.Stat(); err == nil && info.Size() == 0 {
		_ = u.dir.Remove(u.name)
	}
	u.file.Close()
	u.dir.Close()
	u.file = nil
}
