package archive

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"proot-distro/internal/flock"
)

const writeSize = 128 << 10 // tar writes headers and paddings one by one

func newBuffer(w io.Writer) *bufio.Writer { return bufio.NewWriterSize(w, writeSize) }

// ErrExists means that the file to be written is there already.
var ErrExists = errors.New("it exists already")

// WriteFile lets write fill a new file, which appears under its name only when it is complete.
// Errors: [ErrExists]. A device or a FIFO is written to as it is.
//
// The file grows as .<name>.part beside it, locked; one that a killed process left behind is
// taken over.
func WriteFile(name string, write func(w io.Writer) error) error {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
		return errors.Join(write(f), f.Close())
	}
	if _, err := os.Lstat(name); err == nil {
		return fmt.Errorf("write archive %s: %w", name, ErrExists)
	}
	temp := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".part")
	f, err := openPart(temp)
	if err != nil {
		return fmt.Errorf("write archive %s: %w", name, err)
	}
	defer f.Close()
	if err = fill(temp, write); err == nil {
		err = publish(temp, name)
	}
	if err != nil {
		os.Remove(temp)
	}
	return err
}

// fill opens the file once more: a program that writes it for us, and may outlive us when we are
// killed, must not keep its lock.
func fill(temp string, write func(w io.Writer) error) error {
	f, err := os.OpenFile(temp, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	err = write(f)
	if closeErr := f.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("write archive: %w", closeErr)
	}
	return err
}

// openPart creates a file that nobody else writes. What a dead process left there goes: it is
// never written into, since it may have been given another name already.
func openPart(temp string) (*os.File, error) {
	for {
		f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if errors.Is(err, fs.ErrExist) {
			if err := removeDead(temp); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if ours, err := flock.Try(f, unix.LOCK_EX); err != nil || ours && isNamed(f, temp) {
			return f, err
		}
		f.Close() // taken for a dead one's before we had the lock
	}
}

func removeDead(temp string) error {
	f, err := os.OpenFile(temp, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	dead, err := flock.Try(f, unix.LOCK_EX)
	if err == nil && !dead {
		err = errors.New("another command is writing it")
	}
	if err != nil || !isNamed(f, temp) {
		return err
	}
	return os.Remove(temp)
}

func isNamed(f *os.File, name string) bool {
	there, err := os.Lstat(name)
	if err != nil {
		return false
	}
	ours, err := f.Stat()
	return err == nil && os.SameFile(there, ours)
}

// publish gives the file its name without replacing another one. Where hard links are refused,
// as on Android, there is a moment between looking and renaming.
func publish(temp, name string) error {
	err := os.Link(temp, name)
	if err == nil {
		return os.Remove(temp)
	}
	if !errors.Is(err, fs.ErrExist) {
		if _, statErr := os.Lstat(name); errors.Is(statErr, fs.ErrNotExist) {
			return os.Rename(temp, name)
		}
	}
	return fmt.Errorf("write archive %s: %w", name, ErrExists)
}
