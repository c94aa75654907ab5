package compression

import (
	"io"
	"os"
	"sync"
	"time"
)

const (
	chunkSize = 128 << 10
	// ringSize chunks are under way at most between a reader and its consumer.
	ringSize = 6
)

// ahead reads from a source in a goroutine of its own, a few chunks ahead of
// its consumer, so that the work of both overlaps.
type ahead struct {
	full chan chunk  // filled, in order; has room for the whole ring
	free chan []byte // to be filled
	stop chan struct{}
	done chan struct{} // closed when the goroutine has let go of the source

	stopOnce sync.Once
	current  chunk
	rest     []byte // of current, not consumed yet
}

type chunk struct {
	buf []byte // at its full capacity
	n   int    // bytes read into buf
	err error  // what the source said after them
}

func readAhead(src io.Reader) *ahead {
	a := &ahead{
		full: make(chan chunk, ringSize),
		free: make(chan []byte, ringSize),
		stop: make(chan struct{}),
		done: make(chan struct{}),
	}
	for range ringSize {
		a.free <- nil // allocated when first needed: short streams need one
	}
	go a.run(src)
	return a
}

func (a *ahead) run(src io.Reader) {
	defer close(a.done)
	for {
		select {
		case <-a.stop:
			return
		case buf := <-a.free:
			if buf == nil {
				buf = make([]byte, chunkSize)
			}
			c := a.fill(buf, src)
			a.full <- c
			if c.err != nil {
				return
			}
		}
	}
}

// fill is io.ReadFull that keeps the source's error and heeds stop.
func (a *ahead) fill(buf []byte, src io.Reader) chunk {
	c := chunk{buf: buf}
	for c.n < len(buf) && c.err == nil {
		select {
		case <-a.stop:
			c.err = os.ErrClosed
		default:
			var n int
			n, c.err = src.Read(buf[c.n:])
			c.n += n
		}
	}
	return c
}

// Read is for one consumer at a time; it ends with os.ErrClosed after a halt.
func (a *ahead) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(a.rest) == 0 {
		if a.current.err != nil {
			return 0, a.current.err
		}
		if a.current.buf != nil {
			a.free <- a.current.buf
			a.current = chunk{}
		}
		select {
		case <-a.stop:
			return 0, os.ErrClosed
		case a.current = <-a.full:
			a.rest = a.current.buf[:a.current.n]
		}
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// halt makes the goroutine end at its next step.
func (a *ahead) halt() { a.stopOnce.Do(func() { close(a.stop) }) }

// wait waits for the goroutine's end, for at most the given time.
func (a *ahead) wait(limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-a.done:
	case <-timer.C:
	}
}
