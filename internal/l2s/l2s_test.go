package l2s

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"proot-distro/internal/rootfs"
)

// plant makes files, links ("→target") and directories ("/") below dir; ROOT in a target
// is root.
func plant(t *testing.T, dir, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "→"); ok {
			err = os.Symlink(strings.ReplaceAll(target, "ROOT", root), file)
		} else if content == "/" {
			err = os.Mkdir(file, 0o755)
		} else {
			err = os.WriteFile(file, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func open(t *testing.T, dir string) *rootfs.FS {
	t.Helper()
	tree, err := rootfs.Open(dir, rootfs.GuestLinks)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

// perl has two names, with its file in /.l2s; zip has its file beside it, as older versions left it.
var standins = map[string]string{
	"usr/bin/perl":              "→ROOT/.l2s/.l2s.perl0001",
	"usr/bin/perl5":             "→ROOT/.l2s/.l2s.perl0001",
	".l2s/.l2s.perl0001":        "→ROOT/.l2s/.l2s.perl0001.0002",
	".l2s/.l2s.perl0001.0002":   "perl!",
	"usr/bin/zip":               "→ROOT/usr/bin/.l2s.zip0001",
	"usr/bin/.l2s.zip0001":      "→ROOT/usr/bin/.l2s.zip0001.0003",
	"usr/bin/.l2s.zip0001.0003": "zip",
}

// hostile are links that look like stand-ins and are none.
var hostile = map[string]string{
	"bin":                    "→usr/bin",
	"outside":                "→/etc/.l2s.passwd0001",
	"climbing":               "→ROOT/../.l2s.secret0001",
	"dots":                   "→ROOT/usr/../../.l2s.secret0001",
	"sibling":                "→ROOT-too/.l2s.secret0001",
	"dangling":               "→ROOT/.l2s/.l2s.none0001",
	"relative":               "→.l2s/.l2s.perl0001",
	"direct":                 "→ROOT/.l2s/.l2s.perl0001.0002",
	"loop":                   "→ROOT/.l2s/.l2s.loop0001",
	".l2s/.l2s.loop0001":     "→ROOT/.l2s/.l2s.loop0001",
	"out":                    "→ROOT/.l2s/.l2s.out0001",
	".l2s/.l2s.out0001":      "→/etc/.l2s.passwd0001.0002",
	"plain":                  "→ROOT/usr/bin/zip",
	"dir":                    "→ROOT/.l2s/.l2s.dir0001",
	".l2s/.l2s.dir0001":      "→ROOT/.l2s/.l2s.dir0001.0002",
	".l2s/.l2s.dir0001.0002": "/",
}

func TestResolve(t *testing.T) {
	root := t.TempDir()
	plant(t, root, root, standins)
	plant(t, root, root, hostile)
	l := New(open(t, root))
	want := map[string]string{
		"usr/bin/perl": "/.l2s/.l2s.perl0001.0002", "usr/bin/perl5": "/.l2s/.l2s.perl0001.0002",
		"usr/bin/zip": "/usr/bin/.l2s.zip0001.0003",
	}
	for _, set := range []map[string]string{standins, hostile} {
		for name := range set {
			target, err := os.Readlink(filepath.Join(root, name))
			if err != nil || strings.HasPrefix(filepath.Base(name), prefix) {
				continue
			}
			file, ok := l.Resolve(target)
			if file.Name != want[name] || ok != (want[name] != "") {
				t.Errorf("%s: %v, %v", name, file, ok)
			}
			if ok && (!file.Info.Mode.IsRegular() || file.Info.Size == 0) {
				t.Errorf("%s: %v", name, file.Info)
			}
		}
	}
}

// A path of the host with links in it is found under both of its names.
func TestResolveThroughLinkedHostPath(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "real"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", filepath.Join(dir, "linked")); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{"real", "linked"} {
		root = filepath.Join(dir, root)
		plant(t, root, root, map[string]string{"a/" + filepath.Base(root): "→ROOT/.l2s/.l2s.x0001"})
	}
	plant(t, filepath.Join(dir, "real"), filepath.Join(dir, "real"), map[string]string{
		".l2s/.l2s.x0001": "→ROOT/.l2s/.l2s.x0001.0002", ".l2s/.l2s.x0001.0002": "x"})
	l := New(open(t, filepath.Join(dir, "linked")))
	for _, name := range []string{"real", "linked"} {
		target, err := os.Readlink(filepath.Join(dir, "real/a", name))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := l.Resolve(target); !ok {
			t.Errorf("%s → %s is none", name, target)
		}
	}
}

func TestBacking(t *testing.T) {
	root := t.TempDir()
	plant(t, root, root, standins)
	plant(t, root, root, map[string]string{
		"etc/.l2s.mine": "a user's", "etc/.l2s.mine0001.0002": "a user's", "etc/.l2s.mine0002": "→/etc/passwd",
	})
	l := New(open(t, root))
	for name, want := range map[string]bool{
		"/.l2s": true, ".l2s/.l2s.perl0001": true, ".l2s/.l2s.perl0001.0002": true, "/usr/bin/.l2s.zip0001": true,
		"/usr/bin/.l2s.zip0001.0003": true, "/usr/bin/zip": false, "/usr/bin": false, "/": false,
		"/etc/.l2s.mine": false, "/etc/.l2s.mine0001.0002": false, "/etc/.l2s.mine0002": false, "/none/.l2s.x0001": false,
	} {
		if got := l.Backing(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	plant(t, root, root, map[string]string{".l2s/note": "a user's"})
	if l.Backing("/.l2s") {
		t.Error("/.l2s holds more than stand-ins")
	}
}

func TestRewrite(t *testing.T) {
	dir := t.TempDir()
	old, now := filepath.Join(dir, "old"), filepath.Join(dir, "new")
	plant(t, now, old, standins)
	plant(t, now, old, hostile)
	plant(t, now, old, map[string]string{"usr/" + tempName: "→ROOT/.l2s/.l2s.perl0001"})
	closed := filepath.Join(now, "usr/bin")
	past := time.Unix(1e9, 5000)
	if err := errors.Join(os.Chtimes(closed, past, past), os.Chmod(closed, 0o000|fs.ModeSetgid)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(closed, 0o755) })
	tree := open(t, now)
	seen := 0
	move := Move{From: Roots(dir, "old"), To: now, OnEntries: func(n int) { seen += n }}
	for range 2 { // the second finds nothing to do
		if err := Rewrite(tree, move); err != nil {
			t.Fatal(err)
		}
	}
	if seen < 2*len(standins) {
		t.Errorf("%d entries seen", seen)
	}
	info, err := os.Stat(closed)
	if err != nil || info.Mode().Perm() != 0 || info.Mode()&fs.ModeSetgid == 0 || !info.ModTime().Equal(past) {
		t.Errorf("the closed directory: %v %v, %v", info.Mode(), info.ModTime(), err)
	}
	if err := os.Chmod(closed, 0o755); err != nil {
		t.Fatal(err)
	}
	got, want := map[string]string{}, map[string]string{}
	for _, set := range []map[string]string{standins, hostile} {
		for name, content := range set {
			if target, ok := strings.CutPrefix(content, "→"); ok {
				root := old
				if _, ok := Reroot(strings.ReplaceAll(target, "ROOT", old), []string{old}, now); ok {
					root = now
				}
				want[name] = strings.ReplaceAll(target, "ROOT", root)
				if got[name], err = os.Readlink(filepath.Join(now, name)); err != nil {
					t.Error(err)
				}
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Lstat(filepath.Join(now, "usr", tempName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a killed process left: %v", err)
	}
	if file, ok := New(tree).Resolve(got["usr/bin/zip"]); !ok || file.Info.Size != 3 {
		t.Errorf("zip: %v, %v", file, ok)
	}
}

// Directories deeper than any path are passed over.
func TestRewriteDeep(t *testing.T) {
	root := t.TempDir()
	fd, err := unix.Open(root, unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("d", 200)
	for range 40 {
		if err := unix.Mkdirat(fd, name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, name, unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
	tree := open(t, root)
	if err := Rewrite(tree, Move{From: []string{"/old"}, To: root}); err != nil {
		t.Error(err)
	}
	if err := tree.RemoveAll(name, rootfs.RemoveOptions{}); err != nil {
		t.Error(err)
	}
}

func FuzzReroot(f *testing.F) {
	for _, target := range []string{"", "/r/.l2s/.l2s.a0001", "/r/../.l2s.a", "/r", "/r/", "/rr/.l2s.a", "/r/.l2s.\xff\x00"} {
		f.Add(target)
	}
	f.Fuzz(func(t *testing.T, target string) {
		moved, ok := Reroot(target, []string{"/r"}, "/new")
		if ok && (!strings.HasPrefix(moved, "/new/") || filepath.Clean(moved) != moved || strings.Contains(moved, "/../")) {
			t.Errorf("%q → %q", target, moved)
		}
	})
}
