package transfer

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// asUser runs the calling test once more as an ordinary user when the tests run as
// root, whom permissions do not stop, and reports whether the caller is that user.
func asUser(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return true
	}
	self, err := os.Open("/proc/self/exe")
	check(t, err)
	defer self.Close()
	cmd := exec.Command("/proc/self/fd/3", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.ExtraFiles = []*os.File{self} // the user may not enter the directory of the test binary
	cmd.Dir = "/"
	cmd.Env = []string{"TMPDIR=/tmp"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("as an ordinary user: %v\n%s", err, out)
	}
	return false
}

// old is the time of everything that build makes.
var old = time.Unix(1_500_000_000, 123_456_789)

// build makes "dir/", "file=content" and "link->target" below dir; a mode may
// follow: "file=content@600".
func build(t testing.TB, dir string, entries ...string) {
	t.Helper()
	check(t, os.MkdirAll(dir, 0o755))
	var modes []func()
	for _, e := range entries {
		e, modeText, hasMode := strings.Cut(e, "@")
		name, target, isLink := strings.Cut(e, "->")
		name, content, isFile := strings.Cut(name, "=")
		at := filepath.Join(dir, name)
		check(t, os.MkdirAll(filepath.Dir(at), 0o755))
		switch {
		case isLink:
			check(t, os.Symlink(target, at))
		case isFile:
			check(t, os.WriteFile(at, []byte(content), 0o644))
		default:
			check(t, os.MkdirAll(at, 0o755))
		}
		if hasMode {
			var mode uint32
			_, err := fmt.Sscanf(modeText, "%o", &mode)
			check(t, err)
			modes = append(modes, func() { check(t, unix.Chmod(at, mode)) })
		}
	}
	check(t, filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		check(t, err)
		ts := unix.NsecToTimespec(old.UnixNano())
		return unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	}))
	for _, set := range modes {
		set()
	}
}

// list describes what is below dir, a line an entry; times are left out.
func list(t testing.TB, dir string) string {
	t.Helper()
	var lines []string
	check(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		check(t, err)
		rel, _ := filepath.Rel(dir, name)
		switch {
		case rel == ".":
		case d.IsDir():
			lines = append(lines, rel+"/")
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(name)
			check(t, err)
			lines = append(lines, rel+"->"+target)
		case d.Type().IsRegular():
			data, err := os.ReadFile(name)
			check(t, err)
			lines = append(lines, rel+"="+string(data))
		default:
			lines = append(lines, rel+" "+d.Type().String())
		}
		return nil
	}))
	return strings.Join(lines, " ")
}

// lines are what a Reporter was told.
type lines struct {
	report.Reporter
	mu   sync.Mutex
	text []string
}

func (l *lines) Warnf(format string, args ...any)   { l.add("warning: "+format, args) }
func (l *lines) Detailf(format string, args ...any) { l.add(format, args) }

func (l *lines) add(format string, args []any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, fmt.Sprintf(format, args...))
}

func (l *lines) String() string { return strings.Join(l.text, "\n") }

// world is a host's directory and two containers.
type world struct {
	t    testing.TB
	host string
	dirs map[string]string
	root map[string]*rootfs.FS
	said *lines
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, dirs: map[string]string{}, root: map[string]*rootfs.FS{}, said: &lines{Reporter: report.Discard}}
	w.host = filepath.Join(t.TempDir(), "host")
	check(t, os.Mkdir(w.host, 0o755))
	for _, name := range []string{"box", "other"} {
		w.dirs[name] = filepath.Join(t.TempDir(), name, "rootfs")
		check(t, os.MkdirAll(w.dirs[name], 0o755))
		root, err := rootfs.Open(w.dirs[name], rootfs.GuestLinks)
		check(t, err)
		t.Cleanup(func() { root.Close() })
		w.root[name] = root
	}
	return w
}

// end reads "box:/path" or "path", the latter below the host's directory.
func (w *world) end(text string) End {
	if name, path, ok := strings.Cut(text, ":"); ok {
		return End{Container: name, Root: w.root[name], Path: path}
	}
	if !strings.HasPrefix(text, "/") {
		text = w.host + "/" + text
	}
	return End{Path: text}
}

func (w *world) options() Options { return Options{Report: w.said, Measure: true} }

func (w *world) copy(from, to string, o CopyOptions) (Result, error) {
	o.Options = w.options()
	return Copy(context.Background(), w.end(from), w.end(to), o)
}

func (w *world) sync(from, to string, o SyncOptions) (Result, error) {
	o.Options = w.options()
	return Sync(context.Background(), w.end(from), w.end(to), o)
}
