package compression

import (
	"bufio"
	"errors"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/dsnet/compress/bzip2"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
	"github.com/ulikunitz/xz/lzma"
)

// Limits of the memory that a stream may ask for in its header. zstd -d has the
// same; xz -9 and lzma -9 make dictionaries of 64 MiB.
const (
	maxZstdWindow = 128 << 20
	maxDictionary = 64 << 20
)

// decoder decompresses src and, whatever comes of it, reads src to its end.
type decoder struct {
	format Format
	src    *bufio.Reader
	stream io.Reader // nil before the first Read
	large  bool      // it needs so much memory that it matters

	released sync.Once
}

func (d *decoder) Read(p []byte) (n int, err error) {
	if d.stream == nil {
		d.large = d.format == Zstd && largeWindow(d.src)
		d.stream, err = openStream(d.format, d.src)
	}
	if err == nil {
		n, err = d.stream.Read(p)
	}
	if err == nil {
		return n, nil
	}
	d.release()
	if _, srcErr := io.Copy(io.Discard, d.src); srcErr != nil {
		return n, srcErr
	}
	if err == io.EOF {
		return n, io.EOF
	}
	return n, &Error{Format: d.format, Problem: problem(err), Err: err}
}

// release gives a large window back at once. Left to itself, the collector lets as much garbage wait
// as there is memory in use: three readers, one after the other, would need three windows.
func (d *decoder) release() {
	d.released.Do(func() {
		z, ok := d.stream.(*zstd.Decoder)
		if !ok {
			return
		}
		z.Close()
		d.stream = finished{}
		if d.large {
			debug.FreeOSMemory()
		}
	})
}

// finished is a stream that was released.
type finished struct{}

func (finished) Read([]byte) (int, error) { return 0, os.ErrClosed }

func openStream(format Format, src *bufio.Reader) (io.Reader, error) {
	switch format {
	case Gzip:
		return openGzip(src)
	case Bzip2:
		z, err := bzip2.NewReader(src, nil)
		return bzip2Streams{z}, err
	case XZ:
		z, err := xz.NewReader(src, maxDictionary)
		return z, unexpectedEOF(err)
	case LZMA:
		z, err := lzma.ReaderConfig{DictCap: maxDictionary}.NewReader(src)
		return z, unexpectedEOF(err)
	case Zstd:
		// Concurrency 1 decodes in our goroutine: on few cores that is the
		// fastest way, and the one that needs the least memory.
		return zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxZstdWindow))
	}
	return src, nil
}

// largeWindow reports whether the first frame of a zstd stream wants more than zstd(1) takes
// without --long or --ultra.
func largeWindow(src *bufio.Reader) bool {
	const usual = 8 << 20
	head, _ := src.Peek(zstd.HeaderMaxSize)
	var h zstd.Header
	return h.Decode(head) == nil && h.WindowSize > usual
}

// problem completes the sentence "gzip stream …".
func problem(err error) string {
	var dictionary *lzma.ErrDictSize
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, xz.ErrBuf):
		return "is truncated"
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		return "needs more than 128 MiB of memory to decompress"
	case errors.Is(err, xz.ErrMemlimit), errors.As(err, &dictionary):
		return "needs more than 64 MiB of memory to decompress"
	case errors.Is(err, zstd.ErrUnknownDictionary):
		return "was made with a separate dictionary"
	case errors.Is(err, xz.ErrOptions), errors.Is(err, xz.ErrUnsupportedCheck):
		return "uses options that are not supported"
	}
	return "is corrupt"
}

// unexpectedEOF corrects an end of input inside of a header.
func unexpectedEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// gzipMembers reads member after member. As gzip(1) does, it takes what follows
// the last one (often zero padding) for no part of the data.
type gzipMembers struct {
	src    *bufio.Reader
	member *gzip.Reader
}

func openGzip(src *bufio.Reader) (io.Reader, error) {
	member, err := gzip.NewReader(src)
	if err != nil {
		return nil, unexpectedEOF(err)
	}
	member.Multistream(false)
	return &gzipMembers{src, member}, nil
}

func (g *gzipMembers) Read(p []byte) (int, error) {
	for {
		n, err := g.member.Read(p)
		if err != io.EOF || n > 0 {
			return n, ignoreEOF(err)
		}
		if head, _ := g.src.Peek(2); Detect(head) != Gzip {
			return 0, io.EOF
		}
		if err := g.member.Reset(g.src); err != nil {
			return 0, unexpectedEOF(err)
		}
		g.member.Multistream(false)
	}
}

func ignoreEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// bzip2Streams ends, as bzip2(1) does, where another stream could begin but
// something else follows. Our detection has seen the first stream's magic, so
// a missing one can only be that.
type bzip2Streams struct{ *bzip2.Reader }

func (b bzip2Streams) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && strings.HasSuffix(err.Error(), "invalid stream magic") {
		err = io.EOF
	}
	return n, err
}
