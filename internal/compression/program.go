package compression

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// programs that compress better or faster than what we can do ourselves, most wanted
// first. None is needed.
var programs = []struct {
	format Format
	name   string
	args   []string
}{
	{Bzip2, "lbzip2", []string{"-c"}},
	{Bzip2, "bzip2", []string{"-c"}},
	{XZ, "xz", []string{"-q", "-c", "-T0", "--memlimit-compress=512MiB", "--format=xz"}}, // as many threads as that allows
	{LZMA, "xz", []string{"-q", "-c", "--format=lzma"}},
	{Zstd, "zstd", []string{"-q", "-c", fmt.Sprintf("-T%d", min(runtime.NumCPU(), maxZstdThreads))}},
}

// maxZstdThreads keep up with whoever reads the files; each takes some 10 MiB.
const maxZstdThreads = 4

// findProgram gives the path of a program for a format; it is empty when there is
// none. The xz of busybox and toybox cannot compress, and their others are slow. Android counts
// an app's processes, and ends what it finds too many: there the only one is proot.
func findProgram(f Format) (path string, args []string) {
	if runtime.GOOS == "android" {
		return "", nil
	}
	for _, p := range programs {
		if p.format != f {
			continue
		}
		path, err := exec.LookPath(p.name)
		if err != nil {
			continue
		}
		real, err := filepath.EvalSymlinks(path)
		if base := filepath.Base(real); err == nil && !strings.HasPrefix(base, "busybox") && !strings.HasPrefix(base, "toybox") {
			return path, p.args
		}
	}
	return "", nil
}

// program is a writer through another program, from its input to its output.
type program struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	sink   sink // between the program and what is no file
	stderr complaint
	ended  bool
	err    error // once it has ended
}

func startProgram(ctx context.Context, w io.Writer, path string, args []string) (*program, error) {
	p := &program{cmd: exec.CommandContext(ctx, path, args...), sink: sink{w: w}}
	p.cmd.Env = append(os.Environ(), "LC_ALL=C") // writeErrors are looked for in what it says
	p.cmd.Stdout, p.cmd.Stderr = &p.sink, &p.stderr
	if f, ok := w.(*os.File); ok {
		p.cmd.Stdout = f // which saves two copies of everything
	}
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	widen(p.stdin)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(path), err)
	}
	return p, nil
}

// widen makes a pipe hold more, so that neither side has to wake the other up for every 64 KiB. Much more
// would not fit the CPU's cache.
func widen(pipe io.Writer) {
	const size = 512 << 10
	if c, ok := pipe.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, size) })
		}
	}
}

func (p *program) Write(data []byte) (int, error) {
	if p.ended {
		return 0, p.err
	}
	n, err := p.stdin.Write(data)
	if errors.Is(err, syscall.EPIPE) { // it has ended, and knows why
		if endErr := p.end(); endErr != nil {
			err = endErr
		}
		p.err = err
	}
	return n, err
}

func (p *program) Close() error {
	if p.ended {
		return p.err
	}
	return p.end()
}

// end waits for the program. Why its output could not be written explains more
// than how it ended of that.
func (p *program) end() error {
	p.ended = true
	_ = p.stdin.Close() // Wait tells what is wrong
	p.err = p.cmd.Wait()
	name := filepath.Base(p.cmd.Path)
	switch {
	case p.sink.err != nil:
		p.err = p.sink.err
	case p.err != nil:
		p.err = fmt.Errorf("compress with %s: %w", name, p.reason(p.err))
	}
	return p.err
}

// writeErrors are what may keep a program from writing a file, and what callers want to know.
var writeErrors = []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EIO, syscall.EPIPE}

// reason is why a program ended: what it said of its output, else whatever it said, else how it ended.
func (p *program) reason(end error) error {
	said := bytes.TrimSpace(p.stderr.text)
	for _, e := range writeErrors {
		if bytes.Contains(bytes.ToLower(said), []byte(e.Error())) {
			return e
		}
	}
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGPIPE {
		return syscall.EPIPE
	}
	if len(said) > 0 {
		return errors.New(string(said))
	}
	return end
}

// sink remembers the first error of a writer.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(data []byte) (int, error) {
	n, err := s.w.Write(data)
	if s.err == nil {
		s.err = err
	}
	return n, err
}

// complaint keeps the beginning of what a program says.
type complaint struct{ text []byte }

func (c *complaint) Write(data []byte) (int, error) {
	const limit = 300
	c.text = append(c.text, data[:min(len(data), limit-len(c.text))]...)
	return len(data), nil
}
