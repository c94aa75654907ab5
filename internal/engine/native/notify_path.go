package native

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A finder finds the files that a thread of a guest means, by the rules of the guest's
// kernel: from the thread's own root and working directory, among its mounts. It goes
// component by component, since links of the guest must not be followed from the root of this
// process.
type finder struct {
	thread int
	root   int // descriptor, if rooted
	rooted bool
	links  int // followed
}

const (
	maxPath  = 4096 // PATH_MAX
	maxLinks = 40   // MAXSYMLINKS
)

func (f *finder) close() {
	if f.rooted {
		unix.Close(f.root)
	}
}

// find opens the file of a gift with O_PATH.
func (f *finder) find(g gift, named bool) (int, error) {
	if !named {
		return f.open(g.dir)
	}
	name, err := readPath(f.thread, uintptr(g.path))
	switch {
	case err != nil:
		return -1, err
	case name == "" && g.flags&unix.AT_EMPTY_PATH == 0:
		return -1, unix.ENOENT
	case name == "":
		return f.open(g.dir)
	}
	return f.walk(g.dir, name, g.flags&unix.AT_SYMLINK_NOFOLLOW == 0)
}

// open opens a descriptor of the thread; AT_FDCWD is its working directory.
func (f *finder) open(fd int) (int, error) {
	name := "fd/" + strconv.Itoa(fd)
	if fd == unix.AT_FDCWD {
		name = "cwd"
	}
	file, err := openPath(unix.AT_FDCWD, procPath(f.thread, name), 0)
	if err == unix.ENOENT {
		err = unix.EBADF
	}
	return file, err
}

// openRoot gives a descriptor of the thread's root directory.
func (f *finder) openRoot() (int, error) {
	if !f.rooted {
		root, err := openPath(unix.AT_FDCWD, procPath(f.thread, "root"), 0)
		if err != nil {
			return -1, err
		}
		f.root, f.rooted = root, true
	}
	return copied(f.root)
}

func openPath(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_CLOEXEC|flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// walk opens the file of a path; follow says whether a link at its end is followed.
func (f *finder) walk(dir int, name string, follow bool) (int, error) {
	at, err := f.start(dir, name)
	if err != nil {
		return -1, err
	}
	for {
		component, rest, more := strings.Cut(strings.TrimLeft(name, "/"), "/")
		if component == "" {
			return at, nil
		}
		if more && strings.Trim(rest, "/") == "" {
			rest = "." // what has a slash behind it is a directory
		}
		next, target, err := f.step(at, component, follow || more)
		unix.Close(at)
		if err != nil {
			return -1, err
		}
		at, name = next, target
		if more {
			name += "/" + rest
		}
	}
}

// start opens the directory that a path begins at.
func (f *finder) start(dir int, name string) (int, error) {
	if strings.HasPrefix(name, "/") {
		return f.openRoot()
	}
	return f.open(dir)
}

// step goes on to a component. For a link to be followed it gives the target, and where that
// begins.
func (f *finder) step(dir int, component string, follow bool) (next int, target string, err error) {
	if component == ".." {
		next, err = f.parent(dir)
		return next, "", err
	}
	next, err = openPath(dir, component, unix.O_NOFOLLOW)
	if err == unix.EACCES {
		next, err = openClosed(dir, component)
	}
	if err != nil || !follow {
		return next, "", err
	}
	var st unix.Stat_t
	if err := unix.Fstat(next, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return next, "", err
	}
	unix.Close(next)
	if f.links++; f.links > maxLinks {
		return -1, "", unix.ELOOP
	}
	var fs unix.Statfs_t
	if unix.Fstatfs(dir, &fs) == nil && fs.Type == unix.PROC_SUPER_MAGIC {
		target, next, err = f.procLink(dir, component)
	} else {
		target, err = readlink(dir, component)
	}
	switch {
	case err != nil:
		return -1, "", err
	case target == "":
	case target[0] == '/':
		next, err = f.openRoot()
	default:
		next, err = copied(dir)
	}
	return next, target, err
}

// copied makes another descriptor of a file.
func copied(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0) }

// parent is "..", which does not lead out of the thread's root.
func (f *finder) parent(dir int) (int, error) {
	root, err := f.openRoot()
	if err != nil {
		return -1, err
	}
	if same(dir, root) {
		return root, nil
	}
	unix.Close(root)
	return openPath(dir, "..", 0)
}

// same reports whether descriptors are of the same directory of the same mount.
func same(a, b int) bool {
	var sa, sb unix.Statx_t
	const mask = unix.STATX_INO | unix.STATX_MNT_ID
	return unix.Statx(a, "", unix.AT_EMPTY_PATH, mask, &sa) == nil && unix.Statx(b, "", unix.AT_EMPTY_PATH, mask, &sb) == nil &&
		sa.Ino == sb.Ino && sa.Dev_major == sb.Dev_major && sa.Dev_minor == sb.Dev_minor && sa.Mnt_id == sb.Mnt_id
}

// openClosed opens an entry of a directory that its mode closes even to its owner,
// but not to the guest's root.
func openClosed(dir int, name string) (int, error) {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return -1, err
	}
	file := "/proc/self/fd/" + strconv.Itoa(dir)
	if unix.Chmod(file, st.Mode&0o7777|0o100) != nil {
		return -1, unix.EACCES
	}
	fd, err := openPath(dir, name, unix.O_NOFOLLOW)
	_ = unix.Chmod(file, st.Mode&0o7777) // as it could be changed just now
	return fd, err
}

// procLink gives the target of a link in the guest's /proc, or else the file itself. To this
// process's kernel "self" is somebody else, and what is behind some links has no path: a thread
// gets at its own files here; those of others are none of its business.
func (f *finder) procLink(dir int, name string) (target string, file int, err error) {
	group, thread := f.numbers()
	switch name {
	case "self":
		return group, -1, nil
	case "thread-self":
		return group + "/task/" + thread, -1, nil
	}
	target, err = readlink(dir, name)
	if err != nil || !strings.HasPrefix(target, "/") && !strings.Contains(target, ":[") {
		return target, -1, err
	}
	where, err := readlink(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(dir))
	if err != nil {
		return "", -1, err
	}
	number, notNumber := strconv.Atoi(name)
	process, task := "/"+group, "/"+group+"/task/"+thread
	own := strings.HasSuffix(where, process) || strings.HasSuffix(where, task)
	ownFiles := strings.HasSuffix(where, process+"/fd") || strings.HasSuffix(where, task+"/fd")
	switch {
	case ownFiles && notNumber == nil:
		file, err = f.open(number)
	case own && name == "cwd":
		file, err = f.open(unix.AT_FDCWD)
	case own && name == "root":
		file, err = f.openRoot()
	default:
		err = unix.EACCES
	}
	return "", file, err
}

// numbers are the process and the thread as the guest calls them.
func (f *finder) numbers() (group, thread string) {
	last := func(name string) string {
		fields := strings.Fields(statusField(f.thread, name))
		if len(fields) == 0 {
			return ""
		}
		return fields[len(fields)-1]
	}
	return last("NStgid"), last("NSpid")
}

// statusField reads a line of /proc/PID/status.
func statusField(thread int, name string) string {
	status, err := os.ReadFile(procPath(thread, "status"))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(status), "\n"+name+":")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}

// readlink reads a link; an empty name means the descriptor.
func readlink(dir int, name string) (string, error) {
	buf := make([]byte, maxPath)
	n, err := unix.Readlinkat(dir, name, buf)
	switch {
	case err != nil:
		return "", err
	case n == 0:
		return "", unix.ENOENT
	case n == len(buf):
		return "", unix.ENAMETOOLONG
	}
	return string(buf[:n]), nil
}

// readPath reads a path from a thread's memory, page by page: the next may not be there.
func readPath(thread int, address uintptr) (string, error) {
	var path []byte
	page := uintptr(os.Getpagesize())
	for len(path) < maxPath {
		chunk := make([]byte, min(page-address%page, uintptr(maxPath-len(path))))
		if err := readMemory(thread, address, chunk); err != nil {
			return "", unix.EFAULT
		}
		if end := bytes.IndexByte(chunk, 0); end >= 0 {
			return string(append(path, chunk[:end]...)), nil
		}
		path = append(path, chunk...)
		address += uintptr(len(chunk))
	}
	return "", unix.ENAMETOOLONG
}
