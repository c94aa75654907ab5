package transfer

import (
	"errors"
	"hash/crc32"
	"path"

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
	in, st, err := p.openSource(j)
	if gone(err) {
		return
	}
	if err != nil {
		p.miss("read", shown, err)
		return
	}
	defer unix.Close(in)
	info := rootfs.InfoOf(&st)
	if j.old != nil && info.Size == j.old.Size {
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
	d := data{p: p, in: in, size: info.Size, sparse: st.Blocks*512 < info.Size, buf: buf}
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
func (p *pass) openSource(j job) (fd int, st unix.Stat_t, err error) {
	if j.path != "" {
		dir, base, err := p.from.Root.Parent(j.path)
		if err != nil {
			return -1, st, err
		}
		defer dir.Close()
		return open(dir, base)
	}
	fd, st, err = open(j.n.src, j.name)
	if !p.faithful || !isPermission(err) {
		return fd, st, err
	}
	info, statErr := j.n.src.Lstat(j.name)
	if statErr != nil || j.n.src.Chmod(j.name, info.Mode|0o400) != nil {
		return fd, st, err
	}
	fd, st, err = open(j.n.src, j.name)
	if closeErr := j.n.src.Chmod(j.name, info.Mode); err == nil && closeErr != nil {
		unix.Close(fd)
		return -1, st, closeErr
	}
	st.Mode = st.Mode&^0o777 | rootfs.UnixMode(info.Mode)
	return fd, st, err
}

// open is [rootfs.Dir.Open] without the cost of an [os.File], which shows when a tree has
// many small files: a regular file is opened, no link is followed and no FIFO waited for.
func open(dir *rootfs.Dir, name string) (fd int, st unix.Stat_t, err error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, err = retry(func() (int, error) { return unix.Openat(dir.Fd(), name, flags, 0) })
	if err != nil {
		return -1, st, err
	}
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errReplaced
	}
	if err != nil {
		unix.Close(fd)
		return -1, st, err
	}
	return fd, st, nil
}

var errReplaced = errors.New("it is not a regular file any more")

// retry does again what a signal interrupted, which some file systems allow.
func retry(call func() (int, error)) (n int, err error) {
	for {
		if n, err = call(); err != unix.EINTR {
			return n, err
		}
	}
}

// sameContent reports whether the file at j.to has the content of in, by the rules
// of the pass. Sizes are known to be equal.
func (p *pass) sameContent(j job, in int, info rootfs.Info, buf []byte) (bool, error) {
	if !p.checksum {
		return sameSecond(info, *j.old), nil
	}
	out, _, err := open(j.n.dst, j.to)
	if err != nil {
		return false, nil // it will be replaced
	}
	defer unix.Close(out)
	theirs, err := p.sum(out, buf)
	if err != nil {
		return false, nil
	}
	ours, err := p.sum(in, buf)
	return err == nil && ours == theirs, err
}

// sum is the CRC32 of a file (IEEE).
func (p *pass) sum(fd int, buf []byte) (sum uint32, err error) {
	for at := int64(0); !p.stopped(); {
		n, err := retry(func() (int, error) { return unix.Pread(fd, buf, at) })
		if err != nil || n == 0 {
			return sum, err
		}
		sum = crc32.Update(sum, crc32.IEEETable, buf[:n])
		at += int64(n)
	}
	return 0, p.ctx.Err()
}

// write makes the file name of n.dst.
func (p *pass) write(n *node, name string, info rootfs.Info, d *data) (err error) {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	d.out, err = retry(func() (int, error) { return unix.Openat(n.dst.Fd(), name, flags, 0o600) })
	if err != nil {
		return err
	}
	if err = d.copy(); err == nil && p.faithful {
		keepAttributes(d.in, d.out)
		p.keepOwner(n.dst.Fd(), name, info)
	}
	if err == nil {
		err = unix.Fchmod(d.out, rootfs.UnixMode(p.keptMode(info))) // after its owner, since that clears bits
	}
	if closeErr := unix.Close(d.out); err == nil {
		err = closeErr
	}
	if err == nil {
		err = setTime(n.dst.Fd(), name, info.MTime)
	}
	return err
}
