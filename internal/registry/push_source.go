package registry

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"proot-distro/internal/image"
	"proot-distro/internal/report"
)

// source reads a blob for the requests that carry it. Its reader verifies the blob; the last bytes
// are handed out only when they are right, so that no registry ever gets the whole of a damaged blob.
type source struct {
	blob  image.Blob
	meter report.Meter // nil before the first byte is sent
	r     io.ReadCloser
	at    int64 // position of r
	sent  int64 // bytes that the meter knows of
	err   error // of reading; final
}

// section is the body of a request: n bytes from offset on. The one before must be closed.
func (s *source) section(offset, n int64) (*section, error) {
	if s.r != nil && s.at > offset {
		s.r.Close()
		s.r = nil
	}
	if s.r == nil {
		r, err := s.blob.Open()
		if errors.Is(err, fs.ErrNotExist) {
			err = &LostLayerError{s.blob.Descriptor().Digest}
		}
		if err != nil {
			s.err = err
			return nil, err
		}
		s.r, s.at = r, 0
	}
	skipped, err := io.CopyN(io.Discard, s.r, offset-s.at)
	if s.at += skipped; err != nil {
		s.err = fmt.Errorf("read layer: %w", err)
		return nil, s.err
	}
	return &section{source: s, rest: n, closed: make(chan struct{})}, nil
}

func (s *source) close() {
	if s.r != nil {
		s.r.Close()
	}
	if s.meter != nil {
		s.meter.Done()
	}
}

// section is read by one request.
type section struct {
	source *source
	rest   int64
	once   sync.Once
	closed chan struct{}
}

func (b *section) Read(p []byte) (int, error) {
	s := b.source
	if b.rest == 0 {
		return 0, io.EOF
	}
	n, err := s.r.Read(p[:min(int64(len(p)), b.rest)])
	b.rest -= int64(n)
	s.at += int64(n)
	if s.at == s.blob.Descriptor().Size && err == nil {
		err = verdict(s.r)
	}
	if err != nil && err != io.EOF {
		s.err = err
		return 0, err
	}
	if err == io.EOF && b.rest > 0 {
		s.err = io.ErrUnexpectedEOF
		return 0, s.err
	}
	if s.at > s.sent {
		s.meter.Add(s.at - s.sent)
		s.sent = s.at
	}
	return n, nil
}

// verdict is what a reader says behind the last byte.
func verdict(r io.Reader) error {
	for {
		n, err := r.Read(make([]byte, 1))
		if n > 0 {
			return errors.New("the blob is longer than its descriptor says")
		}
		if err != nil {
			return err
		}
	}
}

// Close tells that nobody reads any more.
func (b *section) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}
