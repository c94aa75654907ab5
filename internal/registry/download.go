package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/image"
	"proot-distro/internal/report"
)

// download is one layer on its way into the cache. It is an [image.Blob] whose readers
// follow the growing file; they reach the end only once the digest was verified.
type download struct {
	desc  v1.Descriptor
	label string
	cache *image.Cache

	mu      sync.Mutex
	changed *sync.Cond
	state   state
	err     error    // of stateFailed
	have    int64    // bytes that readers may take
	epoch   int      // counts fresh starts: bytes of different epochs must not be mixed
	file    *os.File // the partial file, for ReadAt; nil before the start and after the end
	readers int
}

type state int

const (
	stateRunning state = iota
	stateDone          // verified, in the cache
	stateFailed
)

func newDownload(desc v1.Descriptor, label string, cache *image.Cache) *download {
	d := &download{desc: desc, label: label, cache: cache}
	d.changed = sync.NewCond(&d.mu)
	return d
}

func (d *download) Descriptor() v1.Descriptor { return d.desc }

// run fetches the layer. Its error is also what readers get.
func (d *download) run(ctx context.Context, c *client, rep report.Reporter) error {
	err := d.fetch(ctx, c, rep)
	if ctx.Err() != nil && err != nil {
		err = context.Cause(ctx)
	}
	if errors.Is(err, image.ErrCached) {
		err = nil
	}
	err = c.explain(err, d.desc.Digest.String(), MissingBlob)
	d.end(err)
	return err
}

// end wakes the readers for the last time. Also used for a download that never ran.
func (d *download) end(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state != stateRunning {
		return
	}
	d.state, d.err = stateDone, err
	if err != nil {
		d.state = stateFailed
	}
	d.closeUnused()
	d.changed.Broadcast()
}

// closeUnused closes the file when nobody reads it any more. The lock is held.
func (d *download) closeUnused() {
	if d.state != stateRunning && d.readers == 0 && d.file != nil {
		d.file.Close()
		d.file = nil
	}
}

func (d *download) fetch(ctx context.Context, c *client, rep report.Reporter) (err error) {
	part, err := d.cache.Partial(ctx, d.desc, func() {
		rep.Infof("%s: waiting for another process that fetches it", d.label)
	})
	if err != nil {
		return err
	}
	defer func() {
		if cerr := part.Close(); err == nil {
			err = cerr
		}
	}()
	t := &transfer{d: d, c: c, part: part, meter: rep.Begin(report.Task{Label: d.label, Total: d.desc.Size})}
	defer t.meter.Done()
	if err := t.begin(); err != nil {
		return err
	}
	return c.pace.repeat(ctx, func() (bool, error) { return t.attempt(ctx) })
}

// transfer fills a partial file, over several connections where need be.
type transfer struct {
	d     *download
	c     *client
	part  *image.Partial
	meter report.Meter

	have     int64 // bytes in part
	counted  int64 // bytes that the meter knows of
	resumed  bool  // some bytes are of an earlier run
	restarts int
}

// maxRestarts bounds the patience with a server that never sends the same bytes twice.
const maxRestarts = 3

func (t *transfer) begin() error {
	have, err := t.part.Resume()
	if err != nil {
		return err
	}
	file, err := t.part.Reader()
	if err != nil {
		return err
	}
	t.d.mu.Lock()
	t.d.file = file
	t.d.mu.Unlock()
	t.resumed = have > 0
	t.advance(have)
	return nil
}

// advance publishes n more bytes.
func (t *transfer) advance(n int64) {
	t.have += n
	if t.have > t.counted {
		t.meter.Add(t.have - t.counted)
		t.counted = t.have
	}
	t.d.mu.Lock()
	t.d.have = t.have
	t.d.changed.Broadcast()
	t.d.mu.Unlock()
}

// restart drops what was fetched.
func (t *transfer) restart() error {
	t.d.mu.Lock()
	t.d.have, t.d.epoch = 0, t.d.epoch+1
	t.d.changed.Broadcast()
	t.d.mu.Unlock()
	t.have, t.resumed = 0, false
	return t.part.Reset()
}

// attempt completes the blob over one connection, and verifies it.
func (t *transfer) attempt(ctx context.Context) (progress bool, err error) {
	if before := t.have; before < t.d.desc.Size {
		if err := t.connection(ctx); err != nil {
			return t.have > before, err
		}
	}
	err = t.part.Commit()
	if bad := new(image.DigestError); !errors.As(err, &bad) || !t.resumed {
		return false, err
	}
	// The bytes of the earlier run may be the bad ones.
	if err := t.restart(); err != nil {
		return false, err
	}
	return t.attempt(ctx)
}

// connection takes what one response gives. It returns nil when the blob is complete.
func (t *transfer) connection(ctx context.Context) error {
	resp, err := t.c.blob(ctx, t.d.desc, t.have)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusRequestedRangeNotSatisfiable:
		return t.distrust("it has no bytes from %d on", t.have)
	case http.StatusPartialContent:
		var first, last int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d", &first, &last); err != nil || first != t.have {
			return t.distrust("it sent the range %q when asked for bytes from %d on", resp.Header.Get("Content-Range"), t.have)
		}
	default:
		if err := t.skip(resp.Body); err != nil {
			return err
		}
		if resp.ContentLength > t.d.desc.Size {
			return t.tooLong()
		}
	}
	return t.copy(resp.Body)
}

// distrust starts over after an answer to a Range request that makes no sense.
func (t *transfer) distrust(format string, args ...any) error {
	if err := t.restart(); err != nil {
		return err
	}
	if t.restarts++; t.restarts > maxRestarts {
		return faultf(Protocol, format, args...)
	}
	return faultf(Network, format, args...)
}

func (t *transfer) tooLong() error {
	return faultf(TooLarge, "layer %s is longer than the %d bytes that its manifest announces", t.d.desc.Digest, t.d.desc.Size)
}

// skip reads over the bytes that we have already, from a server that ignores Range. If they
// are not the same, one of the two is damaged, and all starts over.
func (t *transfer) skip(body io.Reader) error {
	theirs, ours := make([]byte, copySize), make([]byte, copySize)
	for at := int64(0); at < t.have; {
		n, err := body.Read(theirs[:min(copySize, t.have-at)])
		if _, rerr := t.part.File.ReadAt(ours[:n], at); rerr != nil {
			return fmt.Errorf("read partial layer: %w", rerr)
		}
		if !bytes.Equal(theirs[:n], ours[:n]) {
			return t.distrust("its bytes changed between two requests")
		}
		at += int64(n)
		if err != nil && at < t.have {
			return broken(err)
		}
	}
	return nil
}

const copySize = 128 << 10

func (t *transfer) copy(body io.Reader) error {
	buf := make([]byte, copySize)
	for {
		n, err := body.Read(buf)
		if int64(n) > t.d.desc.Size-t.have {
			return t.tooLong()
		}
		if n > 0 {
			if _, err := t.part.Write(buf[:n]); err != nil {
				return err
			}
			t.advance(int64(n))
		}
		switch {
		case err == io.EOF && t.have == t.d.desc.Size:
			return nil
		case err != nil:
			return broken(err)
		}
	}
}
