package transfer

import (
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path"
	"syscall"

	"golang.org/x/sys/unix"

	"proot-distro/internal/rootfs"
)

// sourceError marks a failure to read, which leaves out one file, while a failure to
// write ends the transfer.
type sourceError struct{ error }

func (e *sourceError) Unwrap() error { return e.error }

// file copies one file, unless it turns out to be up to date.
func (p *pass) file(j job, buf []byte) {
	if p.stopped() {
		return
	}
	shown := p.from.at(path.Join(j.n.src.Path(), j.name))
	in, err := p.openSource(j)
	if gone(err) {
		return
	}
	if err != nil {
		p.miss("read", shown, err)
		return
	}
	defer in.Close()
	info, blocks, err := describe(in)
	if err == nil && j.old != nil && info.Size == j.old.Size {
		var same bool
		if same, err = p.sameContent(j, in, info, buf); same {
			p.upToDate(j.n, j.to, info, *j.old)
			return
		}
	}
	if err != nil {
		p.miss("read", shown, err)
		return
	}
	d := data{p: p, in: in, size: info.Size, sparse: blocks*512 < info.Size, buf: buf}
	err = p.put(j.n, j.to, func(name string) error { return p.write(j.n, name, info, &d) })
	var unread *sourceError
	switch {
	case errors.As(err, &unread):
		p.miss("read", shown, unread.error)
	case err == nil:
		p.copied.Add(1)
		p.bytes.Add(d.done)
		p.meter.Add(max(0, info.Size-d.shown))
		p.report.Detailf("%s %s", p.verb, shown)
	}
}

// openSource opens a file for reading. For a clone, one that is closed to its owner
// is open for a moment.
func (p *pass) openSource(j job) (*os.File, error) {
	if j.path != "" {
		return p.from.Root.Open(j.path)
	}
	f, err := j.n.src.Open(j.name)
	if !p.faithful || !isPermission(err) {
		return f, err
	}
	info, statErr := j.n.src.Lstat(j.name)
	if statErr != nil || j.n.src.Chmod(j.name, info.Mode|0o400) != nil {
		return nil, err
	}
	f, err = j.n.src.Open(j.name)
	if closeErr := j.n.src.Chmod(j.name, info.Mode); err == nil && closeErr != nil {
		f.Close()
		return nil, closeErr
	}
	return f, err
}

// describe gives what a copy keeps of an open file, and the blocks of 512 bytes that
// it takes.
func describe(f *os.File) (info rootfs.Info, blocks int64, err error) {
	fi, err := f.Stat()
	if err != nil {
		return info, 0, err
	}
	info = rootfs.Info{Mode: fi.Mode(), Size: fi.Size(), MTime: fi.ModTime()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		info.UID, info.GID, blocks = int(st.Uid), int(st.Gid), st.Blocks
	}
	return info, blocks, nil
}

// sameContent reports whether the file at j.to has the content of in, by the rules
// of the pass. Sizes are known to be equal.
func (p *pass) sameContent(j job, in *os.File, info rootfs.Info, buf []byte) (bool, error) {
	if !p.checksum {
		return sameSecond(info, *j.old), nil
	}
	out, err := j.n.dst.Open(j.to)
	if err != nil {
		return false, nil // replaced
	}
	defer out.Close()
	theirs, err := p.sum(out, buf)
	if err != nil {
		return false, nil
	}
	ours, err := p.sum(in, buf)
	if err == nil && ours != theirs {
		_, err = in.Seek(0, io.SeekStart)
	}
	return err == nil && ours == theirs, err
}

// sum is the CRC32 of a file (IEEE).
func (p *pass) sum(f *os.File, buf []byte) (sum uint32, err error) {
	for !p.stopped() {
		n, err := f.Read(buf)
		sum = crc32.Update(sum, crc32.IEEETable, buf[:n])
		if err == io.EOF {
			return sum, nil
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, p.ctx.Err()
}

// write makes the file name of n.dst.
func (p *pass) write(n *node, name string, info rootfs.Info, d *data) error {
	out, err := n.dst.Create(name, 0o600)
	if err != nil {
		return err
	}
	d.out = out
	if err = d.copy(); err == nil && p.faithful {
		keepAttributes(d.in, out)
		p.keepOwner(n.dst.Fd(), name, info)
	}
	if err == nil {
		err = out.Chmod(p.keptMode(info)) // after its owner, since that clears bits
	}
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = setTime(n.dst.Fd(), name, info.MTime)
	}
	return err
}

// data is the content of one file on its way.
type data struct {
	p       *pass
	in, out *os.File
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
	in := int(d.in.Fd())
	for at := int64(0); at < d.size; {
		start, err := unix.Seek(in, at, unix.SEEK_DATA)
		if err == unix.ENXIO { // a hole up to the end
			break
		}
		if err != nil {
			return d.run(at, -1)
		}
		hole, err := unix.Seek(in, start, unix.SEEK_HOLE)
		if err != nil {
			return &sourceError{err}
		}
		if err := d.run(start, hole); err != nil {
			return err
		}
		if d.done < hole { // it became shorter
			return d.out.Truncate(d.done)
		}
		at = hole
	}
	d.done = max(d.done, d.size)
	return d.out.Truncate(d.done)
}

// clone shares the blocks of the source, where the file system can.
func (d *data) clone() bool {
	if d.p.noClone.Load() {
		return false
	}
	if err := unix.IoctlFileClone(int(d.out.Fd()), int(d.in.Fd())); err != nil {
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
	n, err := d.in.ReadAt(d.buf[:min(want, int64(len(d.buf)))], at)
	if err != nil && err != io.EOF {
		return 0, &sourceError{err}
	}
	if n > 0 {
		if _, err := d.out.WriteAt(d.buf[:n], at); err != nil {
			return 0, err
		}
	}
	return int64(n), err
}

// tryOtherwise tells failures of copy_file_range(2) that say nothing of reading
// and writing.
func tryOtherwise(err error) bool {
	return err != unix.ENOSPC && err != unix.EDQUOT && err != unix.EFBIG
}
