package registry

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// errRestarted is what a reader gets that has handed out bytes which turned out wrong.
var errRestarted = errors.New("the layer had to be fetched anew while it was being unpacked: run the command again")

// Open returns a reader that may be ahead of the download, and then waits for it.
func (d *download) Open() (io.ReadCloser, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state == stateDone {
		return d.cache.Blob(d.desc).Open()
	}
	d.readers++
	return &follower{d: d}, nil
}

// follower reads a blob while it is downloaded.
type follower struct {
	d      *download
	off    int64
	epoch  int
	closed bool
	file   *os.File      // the download's, as long as this reader is open
	cached io.ReadCloser // takes over when another process fetched the blob
}

func (f *follower) Read(p []byte) (int, error) {
	for {
		n, err := f.available(len(p))
		if f.cached != nil && err == nil {
			return f.cached.Read(p)
		}
		if n == 0 || err != nil {
			return 0, err
		}
		n, err = f.file.ReadAt(p[:n], f.off)
		if n > 0 {
			f.off += int64(n)
			return n, nil
		}
		if err != io.EOF { // EOF: started over between the two calls
			return 0, fmt.Errorf("read layer: %w", err)
		}
	}
}

// available waits until there is something to read, and tells how much of want.
func (f *follower) available(want int) (int, error) {
	d := f.d
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		if f.closed {
			return 0, fs.ErrClosed
		}
		if f.cached != nil || want == 0 {
			return 0, nil
		}
		if f.off == 0 {
			f.epoch = d.epoch
		}
		switch {
		case d.state == stateFailed:
			return 0, d.err
		case f.epoch != d.epoch:
			return 0, errRestarted
		case f.off < d.have:
			f.file = d.file
			return int(min(int64(want), d.have-f.off)), nil
		case d.state == stateDone && d.file == nil:
			var err error
			f.cached, err = d.cache.Blob(d.desc).Open()
			return 0, err
		case d.state == stateDone:
			return 0, io.EOF
		}
		d.changed.Wait()
	}
}

// Close may be called while a Read waits, which then ends.
func (f *follower) Close() error {
	d := f.d
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	d.readers--
	d.closeUnused()
	d.changed.Broadcast()
	if f.cached != nil {
		return f.cached.Close()
	}
	return nil
}
