// Package compression reads and writes compressed streams of any format that image
// layers and rootfs archives come in.
//
// Of what is read, the format is found from the bytes, never trusted from a name or media type.
// Everything streams, memory is bounded whatever a header declares, and three
// goroutines share the work: one reads (and, with a verifying source, hashes),
// one decompresses, and the consumer does the rest.
//
// Invariant: a [Reader] that ends with io.EOF has read its source to the end, and
// an error of the source always takes precedence over one of the format. So a
// source that verifies a digest has the last word.
package compression

import (
	"bufio"
	"fmt"
	"io"
	"time"
)

// closeGrace is how long Close waits for a source that blocks.
const closeGrace = 250 * time.Millisecond

// An Error says that compressed data is bad. Its text is one sentence's half,
// such as "gzip stream is truncated"; the caller knows which file it was.
type Error struct {
	Format  Format
	Problem string // "is truncated"
	Err     error  // of the decoder; may be nil
}

func (e *Error) Error() string { return fmt.Sprintf("%s stream %s", e.Format, e.Problem) }
func (e *Error) Unwrap() error { return e.Err }

// Reader gives the decompressed bytes of a stream. One goroutine may read; any
// may close.
type Reader struct {
	format Format
	out    io.Reader
	source *ahead // the bytes as they came
	plain  *ahead // decompressed; nil when there is nothing to decompress
	decode *decoder
}

// NewReader detects the format of r and starts to decompress it. An error is
// one of r itself. The caller closes the Reader, then r.
func NewReader(r io.Reader) (*Reader, error) {
	source := readAhead(r)
	buffered := bufio.NewReaderSize(source, 64<<10)
	head, err := buffered.Peek(DetectLen)
	if err != nil && err != io.EOF {
		source.halt()
		source.wait(closeGrace)
		return nil, err
	}
	z := &Reader{format: Detect(head), source: source, out: buffered}
	if z.format != None {
		z.decode = &decoder{format: z.format, src: buffered}
		z.plain = readAhead(z.decode)
		z.out = z.plain
	}
	return z, nil
}

// Format is the format that was found.
func (z *Reader) Format() Format { return z.format }

// Read gives decompressed bytes. Bad data ends with an [*Error], a failing
// source with the source's own error, a closed Reader with os.ErrClosed.
func (z *Reader) Read(p []byte) (int, error) { return z.out.Read(p) }

// Drain gives up decompressing and reads the source to its end. It returns the
// source's error: the verdict of a source that verifies what it reads, for
// consumers that stop before io.EOF. Only Close may follow.
func (z *Reader) Drain() error {
	if z.plain != nil {
		z.plain.halt()
		<-z.plain.done
	}
	_, err := io.Copy(io.Discard, z.source)
	return err
}

// Close stops the work. It does not close the source, but has let go of it when
// it returns, unless a Read of the source blocks for longer than a moment: that
// Read is then the last, and closing the source may end it.
func (z *Reader) Close() error {
	z.source.halt()
	if z.plain != nil {
		z.plain.halt()
		<-z.plain.done
		z.decode.release()
	}
	z.source.wait(closeGrace)
	return nil
}
