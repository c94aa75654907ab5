package transfer

import (
	"io"

	"golang.org/x/sys/unix"
)

// data is the content of one file on its way.
type data struct {
	p       *pass
	in, out int
	size    int64 // when it was opened
	sparse  bool
	buf     []byte
	done    int64 // bytes copied, holes included
	shown   int64 // of these, told to the meter
}

// step bounds what one system call copies, for the sake of progress and Ctrl-C.
const step = 8 << 20

func (d *data) copy() error {
	if d.size > 0 && d.clone() {
		d.done = d.size
		return nil
	}
	if !d.sparse {
		return d.run(0, -1)
	}
	for at := int64(0); at < d.size; {
		start, err := unix.Seek(d.in, at, unix.SEEK_DATA)
		if err == unix.ENXIO { // a hole up to the end
			break
		}
		if err != nil {
			return d.run(at, -1)
		}
		hole, err := unix.Seek(d.in, start, unix.SEEK_HOLE)
		if err != nil {
			return &sourceError{err}
		}
		if err := d.run(start, hole); err != nil {
			return err
		}
		if d.done < hole { // it became shorter
			return unix.Ftruncate(d.out, d.done)
		}
		at = hole
	}
	d.done = max(d.done, d.size)
	return unix.Ftruncate(d.out, d.done)
}

// clone shares the blocks of the source, where the file system can.
func (d *data) clone() bool {
	if d.p.noClone.Load() {
		return false
	}
	if err := unix.IoctlFileClone(d.out, d.in); err != nil {
		d.p.noClone.Store(true)
		return false
	}
	return true
}

// run copies from one offset up to another, or to the end for -1.
func (d *data) run(at, end int64) error {
	for {
		if d.p.stopped() {
			return d.p.ctx.Err()
		}
		want := int64(step)
		if end >= 0 {
			want = min(want, end-at)
		}
		if want == 0 {
			return nil
		}
		n, err := d.block(at, want)
		at += n
		d.done = at
		d.shown += n
		d.p.meter.Add(n)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// block copies at most want bytes at an offset; io.EOF comes with the last ones.
func (d *data) block(at, want int64) (int64, error) {
	if d.size > int64(len(d.buf)) && !d.p.noRange.Load() {
		n, err := d.rangeCopy(at, want)
		if n > 0 || err != nil && !tryOtherwise(err) {
			return n, err
		}
		if err != nil {
			d.p.noRange.Store(true)
		}
	}
	n, err := retry(func() (int, error) { return unix.Pread(d.in, d.buf[:min(want, int64(len(d.buf)))], at) })
	if err != nil {
		return 0, &sourceError{err}
	}
	for done := 0; done < n; {
		m, err := retry(func() (int, error) { return unix.Pwrite(d.out, d.buf[done:n], at+int64(done)) })
		if err != nil {
			return 0, err
		}
		done += m
	}
	if n == 0 || int64(n) < want && at+int64(n) == d.size {
		return int64(n), io.EOF
	}
	return int64(n), nil
}

// tryOtherwise tells failures of copy_file_range(2) that say nothing of reading
// and writing.
func tryOtherwise(err error) bool {
	return err != unix.ENOSPC && err != unix.EDQUOT && err != unix.EFBIG
}
