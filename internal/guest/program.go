package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"proot-distro/internal/platform"
	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

// Exit statuses of a program that could not be started, as POSIX shells have them.
const (
	StatusCannotRun = 126
	StatusNotFound  = 127
)

// ProgramError says why a program in a container cannot run.
type ProgramError struct {
	Path   string // as it was asked for
	Cause  string // completes "cannot run PATH: "
	Status int    // StatusCannotRun or StatusNotFound
	err    error  // a sentinel that Cause stands for, or nil
}

func (e *ProgramError) Error() string { return fmt.Sprintf("cannot run %q: %s", e.Path, e.Cause) }

// Unwrap gives [ErrNoShell] where that is the cause.
func (e *ProgramError) Unwrap() error { return e.err }

// Programs finds and examines programs the way a process in the container would
// meet them.
type Programs struct {
	Root *rootfs.FS
	// Runs reports whether programs of an architecture can be run at all;
	// with the container's emulator where there is one.
	Runs func(platform.Arch) bool
	// Bound returns the host path that serves a guest path, or false when the
	// rootfs serves it. A program on the host's side is not examined. Nil
	// means that nothing is bound.
	Bound func(guestPath string) (hostPath string, bound bool)
}

// maxShebangs is how many scripts may interpret one another (execve(2)).
const maxShebangs = 4

// Inspect returns a [*ProgramError] when the program at an absolute guest path
// cannot run: it is missing, no program, for another CPU, or lacks its
// interpreter.
func (p Programs) Inspect(name string) error {
	cause, status := p.diagnose(name, maxShebangs)
	if status == 0 {
		return nil
	}
	return &ProgramError{Path: name, Cause: cause, Status: status}
}

// LookPath finds the program that execvp(3) would take: a name without a slash
// in the directories of pathEnv, any other relative to workDir. The result is an
// absolute guest path that has been inspected.
func (p Programs) LookPath(name, pathEnv, workDir string) (string, error) {
	if strings.Contains(name, "/") {
		file := inDir(workDir, name)
		return file, p.Inspect(file)
	}
	if name == "" {
		return "", &ProgramError{Path: name, Cause: "its name is empty", Status: StatusNotFound}
	}
	var denied error
	for dir := range strings.SplitSeq(pathEnv, ":") {
		file := inDir(inDir(workDir, dir), name)
		switch cause, status := p.executable(file); status {
		case 0:
			return file, p.Inspect(file)
		case StatusCannotRun:
			if denied == nil {
				denied = &ProgramError{Path: file, Cause: cause, Status: status}
			}
		}
	}
	if denied != nil {
		return "", denied
	}
	cause := "the container has no such program in its PATH (" + pathEnv + ")"
	return "", &ProgramError{Path: name, Cause: cause, Status: StatusNotFound}
}

// inDir joins without cleaning: ".." behind a link is the guest's to resolve.
func inDir(dir, name string) string {
	if path.IsAbs(name) {
		return name
	}
	return strings.TrimSuffix(dir, "/") + "/" + name
}

// diagnose returns a zero status for a program that can run.
func (p Programs) diagnose(name string, shebangs int) (cause string, status int) {
	file, bound := p.locate(name)
	if bound {
		return p.executable(name)
	}
	f, err := p.Root.Open(file)
	if err != nil {
		cause, status = p.executable(name)
		if status == 0 && !errors.Is(err, fs.ErrPermission) { // mode 0111 runs though nobody may read it
			return report.Cause(err).Error(), StatusCannotRun
		}
		return cause, status
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return report.Cause(err).Error(), StatusCannotRun
	}
	if cause, status := checkMode(info.Mode()); status != 0 {
		return cause, status
	}
	program, err := readELF(f)
	switch {
	case errors.Is(err, errNotELF):
		return p.diagnoseScript(f, shebangs)
	case errors.Is(err, errBadELF):
		return "it is a damaged or unsupported ELF file", StatusCannotRun
	case err != nil:
		return report.Cause(err).Error(), StatusCannotRun
	case program.arch == "":
		return "it is made for a CPU that containers cannot have", StatusCannotRun
	case p.Runs != nil && !p.Runs(program.arch):
		return fmt.Sprintf("it is made for another CPU (%s)", program.arch), StatusCannotRun
	case program.interp == "":
		return "", 0
	}
	if cause, status := p.executable(inDir("/", program.interp)); status != 0 {
		return fmt.Sprintf("its ELF interpreter %s is unusable (%s)", quote(program.interp), cause), status
	}
	return "", 0
}

func (p Programs) diagnoseScript(f *os.File, shebangs int) (cause string, status int) {
	interp, ok := readShebang(f)
	if !ok {
		return "it is neither an ELF program nor a script that starts with #!", StatusCannotRun
	}
	if shebangs == 0 {
		return "too many scripts interpret one another", StatusCannotRun
	}
	// The kernel takes a relative interpreter relative to the working
	// directory; no sane script has one, so the root must do.
	if cause, status := p.diagnose(inDir("/", interp), shebangs-1); status != 0 {
		return fmt.Sprintf("its interpreter %s is unusable (%s)", quote(interp), cause), status
	}
	return "", 0
}

// readShebang returns the interpreter of a script; the kernel looks at the first
// 256 bytes only.
func readShebang(r io.ReaderAt) (interp string, ok bool) {
	buf := make([]byte, 256)
	n, _ := r.ReadAt(buf, 0)
	line, found := bytes.CutPrefix(buf[:n], []byte("#!"))
	if !found {
		return "", false
	}
	line, _, _ = bytes.Cut(line, []byte{'\n'})
	fields := bytes.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' || r == 0 })
	if len(fields) == 0 {
		return "", false
	}
	return string(fields[0]), true
}

// executable checks what execve(2) checks before it reads the file.
func (p Programs) executable(name string) (cause string, status int) {
	mode, err := p.mode(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return p.missing(name), StatusNotFound
	case err != nil:
		return report.Cause(err).Error(), StatusCannotRun
	}
	return checkMode(mode)
}

func checkMode(mode fs.FileMode) (cause string, status int) {
	switch {
	case mode.IsDir():
		return "it is a directory", StatusCannotRun
	case !mode.IsRegular():
		return "it is not a regular file", StatusCannotRun
	case mode&0o111 == 0:
		return "it is not executable", StatusCannotRun
	}
	return "", 0
}

func (p Programs) mode(name string) (fs.FileMode, error) {
	file, bound := p.locate(name)
	if bound {
		info, err := os.Stat(file)
		if err != nil {
			return 0, err
		}
		return info.Mode(), nil
	}
	info, err := p.Root.Stat(file)
	return info.Mode, err
}

// locate returns the host's path of a program that a bind shows, else the guest's, links resolved.
func (p Programs) locate(name string) (file string, bound bool) {
	if p.Bound == nil {
		return name, false
	}
	if host, bound := p.Bound(name); bound {
		return host, true
	}
	resolved, err := p.Root.Resolve(name)
	if err != nil {
		return name, false
	}
	if host, bound := p.Bound(resolved); bound {
		return host, true
	}
	return resolved, false
}

func (p Programs) missing(name string) string {
	if target, err := p.Root.Readlink(name); err == nil {
		return "it is a link to " + quote(target) + ", which does not exist in the container"
	}
	return "it does not exist in the container"
}

// quote keeps a stranger's text on one line without disfiguring plain paths.
func quote(s string) string {
	if q := fmt.Sprintf("%q", s); q != `"`+s+`"` || strings.Contains(s, " ") {
		return q
	}
	return s
}
