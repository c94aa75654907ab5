package native

import (
	"fmt"
	"io"
	"os"
	"reflect"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
)

// streams connect a guest's standard streams with Go's readers and writers, as
// package os/exec does for processes of its own.
type streams struct {
	guest  [3]int     // the guest's ends
	files  []*os.File // what guest refers to
	output []chan error
}

func openStreams(stdio engine.Stdio) (*streams, error) {
	s := &streams{}
	err := s.input(stdio.In)
	if err == nil {
		err = s.to(1, stdio.Out)
	}
	switch {
	case err != nil:
	case sameWriter(stdio.Out, stdio.Err):
		err = s.give(2, s.files[1]) // two at once would disturb each other
	default:
		err = s.to(2, stdio.Err)
	}
	if err != nil {
		_ = s.finish() // the first error tells what is wrong
		return nil, err
	}
	return s, nil
}

// sameWriter compares what may not be comparable.
func sameWriter(a, b io.Writer) bool {
	return a != nil && b != nil && reflect.TypeOf(a).Comparable() && reflect.TypeOf(b).Comparable() && a == b
}

// input lets the guest read from r. The copying ends with r, or with the guest.
func (s *streams) input(r io.Reader) error {
	if file, ok := r.(*os.File); ok || r == nil {
		return s.give(0, file)
	}
	guest, own, err := os.Pipe()
	if err != nil {
		return err
	}
	defer guest.Close()
	go func() {
		_, _ = io.Copy(own, r) // the guest need not read all
		own.Close()
	}()
	return s.give(0, guest)
}

// to lets what the guest writes to fd arrive at w.
func (s *streams) to(fd int, w io.Writer) error {
	if file, ok := w.(*os.File); ok || w == nil {
		return s.give(fd, file)
	}
	own, guest, err := os.Pipe()
	if err != nil {
		return err
	}
	defer guest.Close()
	ended := make(chan error, 1)
	go func() {
		defer own.Close()
		_, err := io.Copy(w, own)
		ended <- err
	}()
	s.output = append(s.output, ended)
	return s.give(fd, guest)
}

// give makes file, or /dev/null for nil, the guest's descriptor fd. The copy is above
// the standard descriptors, so that none is overwritten before it is used.
func (s *streams) give(fd int, file *os.File) error {
	if file == nil {
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer null.Close()
		file = null
	}
	copied, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return fmt.Errorf("copy descriptor of %s: %w", file.Name(), err)
	}
	s.guest[fd] = copied
	s.files = append(s.files, os.NewFile(uintptr(copied), file.Name()))
	return nil
}

// finish closes the guest's ends, once nobody needs them, and waits until all that
// the guest wrote has arrived.
func (s *streams) finish() error {
	for _, f := range s.files {
		f.Close()
	}
	var first error
	for _, ended := range s.output {
		if err := <-ended; first == nil {
			first = err
		}
	}
	return first
}
