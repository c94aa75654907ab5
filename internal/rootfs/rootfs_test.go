package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// asUser runs the calling test once more as an ordinary user when the tests run as
// root, whom permissions do not stop, and reports whether the caller is that user.
func asUser(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return true
	}
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	// By descriptor, since the user may not enter the directory of the test binary.
	cmd := exec.Command("/proc/self/fd/3", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.ExtraFiles = []*os.File{self}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("as an ordinary user: %v\n%s", err, out)
	}
	return false
}

// tree makes a tree of "dir/", "file=content" and "link->target" in t.TempDir().
func tree(t testing.TB, entries ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	check(t, os.Mkdir(dir, 0o755))
	for _, e := range entries {
		if name, target, ok := strings.Cut(e, "->"); ok {
			check(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
			check(t, os.Symlink(target, filepath.Join(dir, name)))
			continue
		}
		if strings.HasSuffix(e, "/") {
			check(t, os.MkdirAll(filepath.Join(dir, e), 0o755))
			continue
		}
		name, content, _ := strings.Cut(e, "=")
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	return dir
}

func open(t testing.TB, dir string, links Links) *FS {
	t.Helper()
	fsys, err := Open(dir, links)
	check(t, err)
	t.Cleanup(func() { check(t, fsys.Close()) })
	return fsys
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestResolve(t *testing.T) {
	entries := []string{
		"usr/bin/bash=elf", "bin->usr/bin", "usr/bin/sh->bash", "usr/bin/abs->/bin/sh",
		"run/lock/x=1", "var/run->/run", "etc/up->../../../../usr/bin/bash", "usr/self->.", "usr/root->/", "usr/up->..",
		"loop->loop", "a->b", "b->a", "dangling->nowhere/x", "dangling2->/usr/none",
		"file=f", "tofile->file", "slash->usr/", "fileslash->file/", "mid->usr/root/usr/up/usr/bin",
		"hop0=end", "out->/../../../../etc/passwd",
	}
	for i := range 41 {
		entries = append(entries, fmt.Sprintf("hop%d->hop%d", i+1, i))
	}
	fsys := open(t, tree(t, entries...), GuestLinks)
	for _, tc := range []struct {
		name, want string
		err        error
	}{
		{"", "/", nil}, {"/", "/", nil}, {".", "/", nil}, {"..", "/", nil}, {"../../..", "/", nil}, {"//", "/", nil},
		{"usr/bin/bash", "/usr/bin/bash", nil},
		{"/bin/bash", "/usr/bin/bash", nil},
		{"bin", "/usr/bin", nil}, {"bin/", "/usr/bin", nil}, {"bin/.", "/usr/bin", nil}, {"./bin/./sh", "/usr/bin/bash", nil},
		{"bin/..", "/usr", nil}, {"bin/../bin/../..", "/", nil}, {"bin/../../../usr/bin", "/usr/bin", nil},
		{"usr/bin/abs", "/usr/bin/bash", nil},
		{"var/run/lock/x", "/run/lock/x", nil},
		{"etc/up", "/usr/bin/bash", nil},
		{"usr/self/self/self/bin", "/usr/bin", nil}, {"usr/self", "/usr", nil},
		{"usr/root", "/", nil}, {"usr/root/bin/sh", "/usr/bin/bash", nil}, {"usr/up", "/", nil},
		{"mid/sh", "/usr/bin/bash", nil}, {"slash", "/usr", nil},
		{"hop40", "/hop0", nil}, {"hop41", "", unix.ELOOP},
		{"loop", "", unix.ELOOP}, {"a/x", "", unix.ELOOP}, {"b", "", unix.ELOOP},
		{"dangling", "", fs.ErrNotExist}, {"dangling2", "", fs.ErrNotExist}, {"dangling/y", "", fs.ErrNotExist},
		{"none", "", fs.ErrNotExist}, {"none/x", "", fs.ErrNotExist}, {"none/../usr", "", fs.ErrNotExist},
		{"out", "", fs.ErrNotExist},
		{"file/x", "", unix.ENOTDIR}, {"file/", "", unix.ENOTDIR}, {"file/..", "", unix.ENOTDIR},
		{"tofile/", "", unix.ENOTDIR}, {"fileslash", "", unix.ENOTDIR}, {"tofile/x", "", unix.ENOTDIR},
		{"nul\x00", "", unix.EINVAL},
		{strings.Repeat("x/", 2048), "", unix.ENAMETOOLONG},
		{strings.Repeat("x", 256), "", unix.ENAMETOOLONG},
	} {
		got, err := fsys.Resolve(tc.name)
		if got != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("Resolve(%.40q) = %q, %v; want %q, %v", tc.name, got, err, tc.want, tc.err)
		}
		var pe *fs.PathError
		if err != nil && !errors.As(err, &pe) {
			t.Errorf("Resolve(%.40q): %v is no PathError", tc.name, err)
		}
	}
}

// A name that costs quadratic time must be given up on.
func TestResolveIsBounded(t *testing.T) {
	deep := strings.Repeat("d/", 1000)
	zigzag := strings.Repeat("d/../", 800)
	fsys := open(t, tree(t, deep, "l->"+strings.TrimSuffix(deep, "/")+"/"+strings.Repeat("x/../", 400)+"x", deep+"x/"), GuestLinks)
	if _, err := fsys.Resolve(zigzag); err != nil {
		t.Errorf("an ordinary zigzag: %v", err)
	}
	if _, err := fsys.Resolve("l"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("got %v, want ELOOP", err)
	}
}

func TestNoLinks(t *testing.T) {
	dir := tree(t, "d/f=x", "l->d", "lf->d/f")
	fsys := open(t, dir, NoLinks)
	if _, err := fsys.ReadFile("d/f", 10); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"l", "l/", "l/f", "lf"} {
		if _, err := fsys.Stat(name); !errors.Is(err, ErrUnsafe) {
			t.Errorf("Stat(%q): %v", name, err)
		}
		if _, err := fsys.Open(name); !errors.Is(err, ErrUnsafe) {
			t.Errorf("Open(%q): %v", name, err)
		}
	}
	if err := fsys.MkdirAll("l/x", 0o755); !errors.Is(err, ErrUnsafe) {
		t.Errorf("MkdirAll: %v", err)
	}
	if info, err := fsys.Lstat("l"); err != nil || info.Mode.Type() != fs.ModeSymlink {
		t.Errorf("Lstat: %v, %v", info.Mode, err)
	}
	check(t, fsys.WriteFile("lf", []byte("new"), 0o600))
	if data, err := os.ReadFile(filepath.Join(dir, "d/f")); string(data) != "x" {
		t.Errorf("written through a link: %q, %v", data, err)
	}
	check(t, fsys.Remove("l"))
}

// Links that lead outside must be of no use to whatever goes through them.
func TestNothingOutside(t *testing.T) {
	dir := tree(t, "keep/")
	outside := filepath.Join(filepath.Dir(dir), "outside")
	check(t, os.Mkdir(outside, 0o755))
	check(t, os.WriteFile(filepath.Join(outside, "canary"), []byte("alive"), 0o644))
	check(t, os.Symlink(outside, filepath.Join(dir, "abs")))
	check(t, os.Symlink("../outside", filepath.Join(dir, "rel")))
	check(t, os.Symlink("../outside/canary", filepath.Join(dir, "file")))
	fsys := open(t, dir, GuestLinks)

	for _, link := range []string{"abs", "rel"} {
		if _, err := fsys.Stat(link + "/canary"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Stat through %s: %v", link, err)
		}
		check(t, fsys.MkdirAll(link+"/canary/sub", 0o755)) // in the tree, as the guest would
		if _, err := fsys.Lstat(link + "/canary/sub"); err != nil {
			t.Error(err)
		}
	}
	if _, err := fsys.ReadFile("file", 10); err == nil {
		t.Error("read a file outside")
	}
	check(t, fsys.WriteFile("file", []byte("mine"), 0o644))
	d, err := fsys.OpenDir("/")
	check(t, err)
	defer d.Close()
	for name, op := range map[string]func() error{
		"OpenDir":  func() error { _, err := d.OpenDir("abs"); return err },
		"Open":     func() error { _, err := d.Open("abs"); return err },
		"OpenFile": func() error { _, err := d.OpenFile("abs", os.O_WRONLY|os.O_TRUNC, 0); return err },
		"Chmod":    func() error { return d.Chmod("abs", 0o700) },
		"SetXattr": func() error { return d.SetXattr("abs", "user.x", nil) },
	} {
		if err := op(); !errors.Is(err, ErrUnsafe) {
			t.Errorf("%s on a link: %v", name, err)
		}
	}
	check(t, d.Chtimes("abs", time.Unix(1, 5)))
	if info, err := d.Lstat("abs"); err != nil || !info.MTime.Equal(time.Unix(1, 5)) {
		t.Errorf("link's time: %v, %v", info.MTime, err)
	}
	check(t, fsys.RemoveAll("abs", RemoveOptions{}))
	check(t, fsys.RemoveAll("rel", RemoveOptions{}))
	info, err := os.Stat(outside)
	check(t, err)
	if info.Mode().Perm() != 0o755 || time.Since(info.ModTime()) > time.Hour {
		t.Errorf("outside was changed: %v %v", info.Mode(), info.ModTime())
	}
	if data, err := os.ReadFile(filepath.Join(outside, "canary")); string(data) != "alive" {
		t.Errorf("canary: %q, %v", data, err)
	}
	if entries, err := os.ReadDir(outside); len(entries) != 1 {
		t.Errorf("outside: %v, %v", entries, err)
	}
}

func TestOperations(t *testing.T) {
	dir := tree(t, "bin->usr/bin", "usr/bin/", "etc/passwd=root")
	fsys := open(t, dir, GuestLinks)
	check(t, fsys.WriteFile("/bin/tool", []byte("#!"), fs.ModeSetuid|0o755))
	check(t, fsys.Symlink("tool", "bin/alias"))
	check(t, fsys.Mkdir("etc/d/", 0o755))
	check(t, fsys.MkdirAll("var/lib/x/", 0o755))
	check(t, fsys.MkdirAll("var/lib/x", 0o755))
	check(t, fsys.Rename("etc/passwd", "bin/moved"))
	if err := fsys.Rename("none", "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Rename: %v", err)
	}
	if err := fsys.MkdirAll("bin/tool/x", 0o755); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("MkdirAll below a file: %v", err)
	}
	if data, err := fsys.ReadFile("bin/alias", 2); err != nil || string(data) != "#!" {
		t.Errorf("ReadFile: %q, %v", data, err)
	}
	if _, err := fsys.ReadFile("bin/alias", 1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("ReadFile beyond its limit: %v", err)
	}
	if info, err := fsys.Stat("bin/alias"); err != nil || info.Mode != fs.ModeSetuid|0o755 || info.Size != 2 || info.Nlink != 1 {
		t.Errorf("Stat: %+v, %v", info, err)
	}
	if target, err := fsys.Readlink("/bin"); err != nil || target != "usr/bin" {
		t.Errorf("Readlink: %q, %v", target, err)
	}
	entries, err := fsys.ReadDir("bin")
	check(t, err)
	want := []Entry{{"alias", fs.ModeSymlink}, {"moved", 0}, {"tool", 0}}
	if diff := cmp.Diff(want, entries); diff != "" {
		t.Error(diff)
	}
	d, base, err := fsys.Parent("bin/new/")
	check(t, err)
	defer d.Close()
	if base != "new" || d.path("") != "/usr/bin" {
		t.Errorf("Parent: %s in %s", base, d.path(""))
	}
	check(t, d.Link("moved", d, "second"))
	if info, err := d.Lstat("second"); err != nil || info.Nlink != 2 {
		t.Errorf("Lstat: %+v, %v", info, err)
	}
	check(t, d.Chmod("second", fs.ModeSticky|fs.ModeSetgid|0o421))
	if info, _ := d.Lstat("moved"); info.Mode != fs.ModeSticky|fs.ModeSetgid|0o421 {
		t.Errorf("Chmod: %v", info.Mode)
	}
	for _, name := range []string{"", ".", "..", "a/b", "/", "a\x00"} {
		if err := d.Mkdir(name, 0o755); !errors.Is(err, unix.EINVAL) {
			t.Errorf("Mkdir(%q): %v", name, err)
		}
	}
	for _, name := range []string{"/", "", "..", "bin/../.."} {
		if _, _, err := fsys.Parent(name); !errors.Is(err, unix.EINVAL) {
			t.Errorf("Parent(%q): %v", name, err)
		}
		if err := fsys.RemoveAll(name, RemoveOptions{}); !errors.Is(err, unix.EINVAL) {
			t.Errorf("RemoveAll(%q): %v", name, err)
		}
	}
	if _, err := fsys.Open("usr"); !errors.Is(err, unix.EISDIR) || !errors.Is(err, ErrUnsafe) {
		t.Errorf("Open of a directory: %v", err)
	}
}

func TestWriteFileLeavesNothing(t *testing.T) {
	dir := tree(t, "d/sub/")
	fsys := open(t, dir, GuestLinks)
	if err := fsys.WriteFile("d/sub", []byte("x"), 0o644); err == nil {
		t.Error("a directory was replaced")
	}
	entries, err := fsys.ReadDir("d")
	if len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// The mode is exact whatever the umask; in a process of its own, since the umask
// is the process's.
func TestUmask(t *testing.T) {
	if !asUser(t) {
		return
	}
	defer unix.Umask(unix.Umask(0o077))
	fsys := open(t, tree(t, "x/"), GuestLinks)
	check(t, fsys.WriteFile("f", nil, 0o666))
	if info, err := fsys.Stat("f"); err != nil || info.Mode != 0o666 {
		t.Errorf("%v, %v", info.Mode, err)
	}
	check(t, fsys.MkdirAll("a/b", fs.ModeSticky|0o777))
	for _, name := range []string{"a", "a/b"} {
		if info, err := fsys.Stat(name); err != nil || info.Mode != fs.ModeDir|fs.ModeSticky|0o777 {
			t.Errorf("%s: %v, %v", name, info.Mode, err)
		}
	}
}

func TestSpecialFiles(t *testing.T) {
	dir := tree(t, "d/")
	fsys := open(t, dir, GuestLinks)
	check(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	check(t, err)
	defer unix.Close(fd)
	check(t, unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(dir, "socket")}))
	check(t, os.Symlink("fifo", filepath.Join(dir, "link")))

	done := make(chan bool)
	go func() {
		defer close(done)
		for _, name := range []string{"fifo", "socket", "link"} {
			if _, err := fsys.Open(name); !errors.Is(err, ErrUnsafe) {
				t.Errorf("Open(%q): %v", name, err)
			}
		}
		d, err := fsys.OpenDir("")
		check(t, err)
		defer d.Close()
		for _, flag := range []int{os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_CREATE | os.O_TRUNC} {
			if _, err := d.OpenFile("fifo", flag, 0o644); !errors.Is(err, ErrUnsafe) {
				t.Errorf("OpenFile(fifo, %#x): %v", flag, err)
			}
		}
		if err := d.SetXattr("fifo", "user.x", nil); !errors.Is(err, ErrUnsafe) {
			t.Errorf("SetXattr: %v", err)
		}
		check(t, d.Chmod("fifo", 0o600))
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("blocked on a FIFO")
	}
	info, err := fsys.Lstat("fifo")
	if err != nil || info.Mode != fs.ModeNamedPipe|0o600 {
		t.Errorf("%v, %v", info.Mode, err)
	}
}

func TestChmodOfUnreadable(t *testing.T) {
	if !asUser(t) {
		return
	}
	dir := tree(t, "f=x", "d/")
	fsys := open(t, dir, GuestLinks)
	d, err := fsys.OpenDir("")
	check(t, err)
	defer d.Close()
	for _, name := range []string{"f", "d"} {
		check(t, d.Chmod(name, 0))
		check(t, d.Chmod(name, 0o751))
		if info, _ := d.Lstat(name); info.Mode.Perm() != 0o751 {
			t.Errorf("%s: %v", name, info.Mode)
		}
	}
}

func TestSetXattr(t *testing.T) {
	dir := tree(t, "f=x", "d/")
	fsys := open(t, dir, GuestLinks)
	d, err := fsys.OpenDir("")
	check(t, err)
	defer d.Close()
	for _, name := range []string{"f", "d"} {
		if err := d.SetXattr(name, "user.note", []byte("v")); errors.Is(err, unix.EOPNOTSUPP) {
			t.Skip("this file system has no extended attributes")
		} else if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 8)
		n, err := unix.Getxattr(filepath.Join(dir, name), "user.note", buf)
		if err != nil || string(buf[:n]) != "v" {
			t.Errorf("%s: %q, %v", name, buf[:max(n, 0)], err)
		}
	}
}
