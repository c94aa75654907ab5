package layer

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
)

const (
	batchSize    = 256 << 10
	batchParts   = 256
	batchCount   = 6 // under way between the parser and the writer
	streamBuffer = 64 << 10

	// maxSparse bounds sparse files, which cost the archive nothing: their
	// holes are produced, if not written, at some GB per second.
	maxSparse = 64 << 30
)

// parser reads a tar stream in its own goroutine. Small files travel together in
// a batch, large ones in several.
type parser struct {
	full   chan *batch
	free   chan *batch
	cancel context.CancelFunc
}

// batch is a piece of the stream. After one with an error (io.EOF at the end of
// the stream) there is no other.
type batch struct {
	parts []part
	data  []byte // what the parts' data are slices of
	err   error
}

// part is an entry, or a piece of one that is a file.
type part struct {
	hdr         *tar.Header
	data        []byte
	first, last bool
}

func startParser(ctx context.Context, stream io.Reader) *parser {
	ctx, cancel := context.WithCancel(ctx)
	p := &parser{full: make(chan *batch, batchCount), free: make(chan *batch, batchCount), cancel: cancel}
	for range batchCount {
		p.free <- nil // allocated when first needed
	}
	go p.run(ctx, stream)
	return p
}

// next gives the next batch.
func (p *parser) next(ctx context.Context) (*batch, error) {
	select {
	case b, ok := <-p.full:
		if !ok { // the parser has seen it first
			return nil, ctx.Err()
		}
		return b, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// recycle takes back a batch that was worked off.
func (p *parser) recycle(b *batch) { p.free <- b }

// stop waits until the stream is no longer read.
func (p *parser) stop() {
	p.cancel()
	for range p.full {
	}
}

func (p *parser) run(ctx context.Context, stream io.Reader) {
	defer close(p.full)
	w := batcher{parser: p, ctx: ctx}
	err := w.flush() // takes the first batch
	if err == nil {
		err = w.parse(bufio.NewReaderSize(contextReader{ctx, stream}, streamBuffer))
	}
	if w.current != nil {
		w.current.err = err
		p.full <- w.current
	}
}

// batcher fills batches.
type batcher struct {
	parser  *parser
	ctx     context.Context
	current *batch
}

// flush sends the current batch and takes a free one.
func (w *batcher) flush() error {
	if w.current != nil {
		w.parser.full <- w.current
		w.current = nil
	}
	select {
	case b := <-w.parser.free:
		if b == nil {
			b = &batch{data: make([]byte, 0, batchSize), parts: make([]part, 0, batchParts)}
		}
		clear(b.parts)
		b.parts, b.data = b.parts[:0], b.data[:0]
		w.current = b
		return nil
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

// parse reads the archive and what follows it; io.EOF is success.
func (w *batcher) parse(stream io.Reader) error {
	archive := tar.NewReader(stream)
	for first := true; ; first = false {
		hdr, err := archive.Next()
		if err == io.EOF {
			if _, err := io.Copy(io.Discard, stream); err != nil {
				return streamError("read tar", err)
			}
			return io.EOF
		}
		if err != nil {
			return headerError(first, err)
		}
		if err := w.entry(hdr, archive); err != nil {
			return err
		}
	}
}

func (w *batcher) entry(hdr *tar.Header, content io.Reader) error {
	if isSparse(hdr) && hdr.Size > maxSparse {
		return fmt.Errorf("read entry %s: a sparse file of %d bytes is too large", quote(hdr.Name), hdr.Size)
	}
	p := part{hdr: hdr, first: true, last: !isFile(hdr) || hdr.Size == 0}
	if p.last {
		return w.add(p)
	}
	if room := int64(cap(w.current.data) - len(w.current.data)); hdr.Size > room && room < batchSize/2 {
		if err := w.flush(); err != nil {
			return err
		}
	}
	for left := hdr.Size; left > 0; p.first = false {
		if len(w.current.data) == cap(w.current.data) {
			if err := w.flush(); err != nil {
				return err
			}
		}
		b := w.current
		start := len(b.data)
		end := start + int(min(left, int64(cap(b.data)-start)))
		n, err := io.ReadFull(content, b.data[start:end])
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return streamError("read entry "+quote(hdr.Name), err)
		}
		left -= int64(n)
		b.data = b.data[:end]
		p.data, p.last = b.data[start:end], left == 0
		if err := w.add(p); err != nil {
			return err
		}
	}
	return nil
}

// add puts a part into the current batch, which has room for it.
func (w *batcher) add(p part) error {
	w.current.parts = append(w.current.parts, p)
	if len(w.current.parts) == cap(w.current.parts) {
		return w.flush()
	}
	return nil
}

func isFile(hdr *tar.Header) bool {
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return true
	}
	return false
}

func isSparse(hdr *tar.Header) bool {
	return hdr.Typeflag == tar.TypeGNUSparse || hdr.PAXRecords["GNU.sparse.major"] != "" ||
		hdr.PAXRecords["GNU.sparse.map"] != ""
}

// headerError says what is wrong where a header should be: what is shorter than one is no archive.
func headerError(first bool, err error) error {
	if first && err == io.ErrUnexpectedEOF {
		err = tar.ErrHeader
	}
	return streamError("read tar", err)
}

// streamError says what is wrong with the stream itself.
func streamError(doing string, err error) error {
	switch {
	case err == io.ErrUnexpectedEOF:
		return &formatError{doing + ": the archive is cut short", err}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s: the archive is cut short: %w", doing, err)
	case errors.Is(err, tar.ErrHeader):
		return &formatError{doing + ": damaged, or not a tar archive", err}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// formatError says what is wrong with an archive; its cause would say it once more.
type formatError struct {
	text  string
	cause error
}

func (e *formatError) Error() string { return e.text }
func (e *formatError) Unwrap() error { return e.cause }

// contextReader stops reading when its context is done.
type contextReader struct {
	ctx context.Context
	src io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.src.Read(p)
}
