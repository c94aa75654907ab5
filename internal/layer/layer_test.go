package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"proot-distro/internal/rootfs"
)

// Each case applies its layers one after the other.
func TestApply(t *testing.T) {
	type layers = [][]tar.Header
	for name, tc := range map[string]struct {
		layers layers
		want   []string
	}{
		"ordinary": {layers{{
			dir("./", 0o700), dir("./usr/", 0o755), dir("usr/bin", 0o755), fileMode("usr/bin/su", "elf", 0o4755),
			fileMode("/usr/bin/wall", "elf", 0o2755), link("bin", "usr/bin"), hard("usr/bin/su2", "usr/bin/su"),
			dir("tmp", 0o1777), fileMode("secret", "", 0), dir("sealed", 0o111), fileMode("sealed/x", "x", 0o400),
		}}, []string{
			"bin -> usr/bin", "sealed d--x--x--x", "sealed/x -r-------- x", "secret ---------- ", "tmp dtrwxrwxrwx", "usr drwxr-xr-x",
			"usr/bin drwxr-xr-x", "usr/bin/su urwxr-xr-x elf", "usr/bin/su2 urwxr-xr-x elf", "usr/bin/wall grwxr-xr-x elf",
		}},
		"missing parents": {layers{{file("a/b/c", "1"), dir("a/", 0o711), link("d/e", "x"), hard("f/g", "a/b/c")}},
			[]string{"a drwx--x--x", "a/b drwxr-xr-x", "a/b/c -rw-r--r-- 1", "d drwxr-xr-x", "d/e -> x",
				"f drwxr-xr-x", "f/g -rw-r--r-- 1"}},
		"through links": {layers{
			{dir("usr/bin", 0o755), link("bin", "usr/bin"), link("abs", "/usr/bin"), link("up", "../../../usr")},
			{file("bin/a", "1"), file("abs/b", "2"), file("up/bin/c", "3"), hard("bin/d", "abs/a"), file("bin/.wh.none", "")},
		}, []string{"abs -> /usr/bin", "bin -> usr/bin", "up -> ../../../usr", "usr drwxr-xr-x", "usr/bin drwxr-xr-x",
			"usr/bin/a -rw-r--r-- 1", "usr/bin/b -rw-r--r-- 2", "usr/bin/c -rw-r--r-- 3", "usr/bin/d -rw-r--r-- 1"}},
		"dangling link on the way": {layers{{link("var/run", "/run"), file("var/run/pid", "1")}},
			[]string{"run drwxr-xr-x", "run/pid -rw-r--r-- 1", "var drwxr-xr-x", "var/run -> /run"}},
		"files are replaced, not written through": {layers{
			{file("target", "old"), link("l", "target"), file("a", "old"), hard("b", "a")},
			{file("l", "new"), file("a", "new")},
		}, []string{"a -rw-r--r-- new", "b -rw-r--r-- old", "l -rw-r--r-- new", "target -rw-r--r-- old"}},
		"types change": {layers{
			{dir("d", 0o755), file("d/x", "1"), file("f", "2"), link("l", "d"), dir("d2/sub", 0o500), dir("e", 0o755)},
			{file("d", "file"), dir("f", 0o755), file("f/y", "3"), dir("l", 0o755), file("l/z", "4"), link("d2", "f"),
				file("d2/w", "5"), hard("e", "d")},
		}, []string{"d -rw-r--r-- file", "d2 -> f", "e -rw-r--r-- file", "f drwxr-xr-x", "f/w -rw-r--r-- 5", "f/y -rw-r--r-- 3",
			"l drwxr-xr-x", "l/z -rw-r--r-- 4"}},
		"directories merge": {layers{{dir("d", 0o755), file("d/x", "1")}, {dir("d", 0o700), file("d/y", "2")}},
			[]string{"d drwx------", "d/x -rw-r--r-- 1", "d/y -rw-r--r-- 2"}},
		"duplicates": {layers{{file("x", "1"), file("x", "22"), dir("x", 0o755), link("x", "y"), file("x", "333"), hard("x", "x")}},
			[]string{"x -rw-r--r-- 333"}},
		"hard links": {layers{{link("l", "nowhere"), hard("l2", "/l"), file("f", "1"), hard("g", "./f"), hard("f", "g"), hard("f", "g")}},
			[]string{"f -rw-r--r-- 1", "g -rw-r--r-- 1", "l -> nowhere", "l2 -> nowhere"}},
		"specials": {layers{{special("null", tar.TypeChar), special("disk", tar.TypeBlock), special("pipe", tar.TypeFifo),
			hard("null2", "null"), hard("null3", "null2"), special("odd", 'V'), file("f", "1")}},
			[]string{"f -rw-r--r-- 1"}},
		"whiteouts": {layers{
			{dir("d", 0o755), file("d/a", "1"), file("d/b", "1"), dir("d/c", 0o755), file("d/c/x", "1"), link("l", "d"), file("keep", "1")},
			{file("d/.wh.a", ""), file("d/.wh.c", ""), file(".wh.l", "ignored content"), file("d/.wh.none", ""), file("no/.wh.x", ""),
				file("keep/.wh.x", "")},
		}, []string{"d drwxr-xr-x", "d/b -rw-r--r-- 1", "keep -rw-r--r-- 1"}},
		"a whiteout spares its own layer": {layers{
			{dir("d", 0o755), file("d/old", "1"), file("f", "1"), dir("e", 0o755), file("e/old", "1")},
			{dir("d", 0o755), file("d/new", "2"), file(".wh.d", ""), file("f", "2"), file(".wh.f", ""),
				file(".wh.e", ""), file("e/new", "2")},
		}, []string{"d drwxr-xr-x", "d/new -rw-r--r-- 2", "e drwxr-xr-x", "e/new -rw-r--r-- 2", "f -rw-r--r-- 2"}},
		"opaque": {layers{
			{dir("d", 0o755), file("d/old", "1"), dir("d/sub", 0o755), file("d/sub/old", "1"), file("d/both", "1"), dir("gone/x", 0o755)},
			{dir("d", 0o755), file("d/sub/new", "2"), file("d/both", "2"), file("d/.wh..wh..opq", ""), file("d/late", "2"),
				file("gone/.wh..wh..opq", ""), file("none/.wh..wh..opq", "")},
		}, []string{"d drwxr-xr-x", "d/both -rw-r--r-- 2", "d/late -rw-r--r-- 2", "d/sub drwxr-xr-x", "d/sub/new -rw-r--r-- 2", "gone drwxr-xr-x"}},
		"an opaque root": {layers{{file("a/b", "1"), file("c", "1")}, {file("a/n", "2"), file(".wh..wh..opq", "")}},
			[]string{"a drwxr-xr-x", "a/n -rw-r--r-- 2"}},
		"an opaque marker does not follow": {layers{{file("d/x", "1"), link("l", "d")}, {file("l/.wh..wh..opq", "")}},
			[]string{"d drwxr-xr-x", "d/x -rw-r--r-- 1", "l -> d"}},
		"reserved names": {layers{{dir("d", 0o755), file("d/x", "1")}, {
			file(".wh.", ""), file(".wh..", ""), file("d/.wh...", ""), file("d/.wh..wh.plnk", "x"), file("d/.wh..wh.aufs", ""),
			file(".wh..wh.plnk/1.2", "x"), file(".wh.d/x", "x"),
		}}, []string{"d drwxr-xr-x", "d/x -rw-r--r-- 1"}},
		"read-only directories": {layers{
			{dir("ro", 0o555), file("ro/a", "1"), dir("ro/none", 0), dir("ro/none/sub", 0o500), file("ro/b", "1"), dir("ro/c", 0o555), file("ro/c/x", "1")},
			{file("ro/none/sub/deep/f", "2"), file("ro/b", "2"), file("ro/.wh.a", ""), file("ro/.wh.c", ""), link("ro/none/l", "x")},
		}, []string{"ro dr-xr-xr-x", "ro/b -rw-r--r-- 2", "ro/none d---------", "ro/none/l -> x", "ro/none/sub dr-x------",
			"ro/none/sub/deep drwxr-xr-x", "ro/none/sub/deep/f -rw-r--r-- 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			if os.Geteuid() == 0 {
				defer unix.Umask(unix.Umask(0o077)) // modes are exact all the same
			}
			root, host := newRoot(t)
			for i, entries := range tc.layers {
				if _, err := apply(t, root, Options{Whiteouts: true}, pack(t, entries...)); err != nil {
					t.Fatalf("layer %d: %v", i, err)
				}
			}
			if diff := cmp.Diff(tc.want, listAll(t, root, host)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// listAll lists a tree in which an ordinary user may not read everything.
func listAll(t *testing.T, root *rootfs.FS, host string) []string {
	if os.Geteuid() == 0 {
		return list(t, host, "")
	}
	modes := map[string]fs.FileMode{}
	open := func(path string, info fs.FileInfo) {
		modes[path] = info.Mode()
		need := fs.FileMode(0o400) // leaves the mode of most files, whatever their other names
		if info.IsDir() {
			need = 0o700
		}
		check(t, os.Chmod(path, info.Mode()|need))
	}
	var walk func(path string)
	walk = func(path string) {
		info, err := os.Lstat(path)
		check(t, err)
		if info.Mode().Type() == fs.ModeSymlink {
			return
		}
		open(path, info)
		if !info.IsDir() {
			return
		}
		entries, err := os.ReadDir(path)
		check(t, err)
		for _, e := range entries {
			walk(filepath.Join(path, e.Name()))
		}
	}
	walk(host)
	lines := list(t, host, "")
	for i, line := range lines {
		name, rest, _ := strings.Cut(line, " ")
		if mode, ok := modes[filepath.Join(host, name)]; ok {
			_, content, hasContent := strings.Cut(rest, " ")
			lines[i] = fmt.Sprintf("%s %v", name, mode)
			if hasContent {
				lines[i] += " " + content
			}
		}
	}
	return lines
}

func TestApplyAsUser(t *testing.T) {
	if asUser(t) && os.Geteuid() != 0 {
		TestApply(t)
	}
}

func TestTimesAndLinks(t *testing.T) {
	root, host := newRoot(t)
	exact := time.Unix(1_500_000_000, 123_456_789)
	entries := []tar.Header{
		dir("d", 0o755), dir("d/sub", 0o555), file("d/sub/f", "1"), link("d/l", "f"), hard("d/h", "d/sub/f"), file("d/old", "1"),
		hard("d/l2", "d/l"),
	}
	for i := range entries {
		entries[i].ModTime, entries[i].Format = exact, tar.FormatPAX
	}
	entries[5].ModTime = time.Unix(-1000, 0)
	stats, err := apply(t, root, Options{}, pack(t, entries...))
	check(t, err)
	if want := (Stats{Entries: 7, Bytes: 2}); stats != want {
		t.Errorf("stats %+v, want %+v", stats, want)
	}
	for _, e := range entries {
		info, err := root.Lstat(e.Name)
		check(t, err)
		if !info.MTime.Equal(e.ModTime) {
			t.Errorf("%s: time %v, want %v", e.Name, info.MTime, e.ModTime)
		}
	}
	if info, _ := root.Lstat("d/h"); info.Nlink != 2 {
		t.Errorf("no hard link: %+v", info)
	}
	info, err := os.Stat(host)
	check(t, err)
	if info.Mode().Perm() != 0o755 {
		t.Errorf("the root's own mode: %v", info.Mode())
	}
}

// Where the kernel refuses hard links, they become copies with the same metadata.
func TestHardLinksRefused(t *testing.T) {
	root, _ := newRoot(t)
	_, err := apply(t, root, Options{}, pack(t, fileMode("f", "content", 0o4751), link("l", "f"), fileMode("unreadable", "x", 0o111)))
	check(t, err)
	a := newApplier(root, Options{})
	defer a.close()
	d, err := a.open("", nil)
	check(t, err)
	for _, name := range []string{"f", "l", "unreadable"} {
		info, err := d.Lstat(name)
		check(t, err)
		target, p := place{d, name}, place{d, name + "-copy"}
		if info.Mode.Type() == fs.ModeSymlink {
			check(t, a.copySymlink(p, target, info))
		} else {
			check(t, a.copyFile(p, target, info))
		}
		got, err := d.Lstat(name + "-copy")
		check(t, err)
		after, err := d.Lstat(name)
		check(t, err)
		if got.Mode != info.Mode || got.Size != info.Size || !got.MTime.Equal(info.MTime) || got.Ino == info.Ino || after.Mode != info.Mode {
			t.Errorf("%s: %+v, its copy %+v, afterwards %+v", name, info, got, after)
		}
	}
	for _, err := range []error{unix.EACCES, unix.EPERM, unix.EXDEV, unix.EMLINK} {
		if !linkRefused(&fs.PathError{Err: err}) {
			t.Errorf("%v is no refusal", err)
		}
	}
	if linkRefused(unix.ENOSPC) || linkRefused(nil) {
		t.Error("a full disk is no refusal")
	}
}

func TestStrip(t *testing.T) {
	root, host := newRoot(t)
	_, err := apply(t, root, Options{Strip: 2}, pack(t, dir("./a/", 0o700), dir("./a/b/", 0o700), file("./a/b/.wh.x", "kept"),
		file("a/b/etc/f", "1"), hard("a/b/g", "./a/b/etc/f"), link("a/b/l", "a/b/g"), file("a/readme", "dropped")))
	check(t, err)
	want := []string{".wh.x -rw-r--r-- kept", "etc drwxr-xr-x", "etc/f -rw-r--r-- 1", "g -rw-r--r-- 1", "l -> a/b/g"}
	if diff := cmp.Diff(want, list(t, host, "")); diff != "" {
		t.Error(diff)
	}
	_, err = apply(t, root, Options{Strip: 2}, pack(t, hard("a/b/x", "a/b")))
	if err == nil || !strings.Contains(err.Error(), `hard link to "a/b": the root cannot be linked`) {
		t.Errorf("got %v", err)
	}
}

func TestXattrs(t *testing.T) {
	root, host := newRoot(t)
	if err := unix.Setxattr(host, "user.probe", nil, 0); err != nil {
		t.Skipf("no extended attributes here: %v", err)
	}
	check(t, unix.Removexattr(host, "user.probe"))
	records := map[string]string{
		"SCHILY.xattr.user.note": "text\x01", "SCHILY.xattr.security.capability": "x", "SCHILY.xattr.trusted.overlay.opaque": "y",
		"SCHILY.xattr.user.overlay.opaque": "y",
	}
	f, d, l := fileMode("f", "1", 0), dir("d", 0o555), link("l", "f")
	for _, hdr := range []*tar.Header{&f, &d, &l} {
		hdr.PAXRecords, hdr.Format = records, tar.FormatPAX
	}
	_, err := apply(t, root, Options{}, pack(t, f, d, l))
	check(t, err)
	for _, name := range []string{"f", "d"} {
		path := filepath.Join(host, name)
		check(t, os.Chmod(path, 0o700))
		buf := make([]byte, 200)
		n, err := unix.Llistxattr(path, buf)
		check(t, err)
		if got := string(buf[:n]); got != "user.note\x00" {
			t.Errorf("%s has %q", name, got)
		}
		n, err = unix.Lgetxattr(path, "user.note", buf)
		check(t, err)
		if got := string(buf[:n]); got != "text\x01" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestSkips(t *testing.T) {
	root, _ := newRoot(t)
	var skipped []string
	stats, err := apply(t, root, Options{Whiteouts: true, OnSkip: func(name, reason string) {
		skipped = append(skipped, name+": "+reason)
	}}, pack(t, special("null", tar.TypeChar), special("p", tar.TypeFifo), hard("n", "null"), file(".wh.", ""), special("v", 'V')))
	check(t, err)
	want := []string{"null: device node", "p: FIFO", "n: hard link to a skipped entry", ".wh.: reserved name", "v: entry of unknown type 'V'"}
	if diff := cmp.Diff(want, skipped); diff != "" {
		t.Error(diff)
	}
	if stats != (Stats{}) {
		t.Errorf("%+v", stats)
	}
}

// A file larger than the buffers, between small ones; and one of exactly a batch.
func TestLargeFiles(t *testing.T) {
	root, _ := newRoot(t)
	var entries []tar.Header
	want := map[string]string{}
	for i, size := range []int{0, 1, batchSize - 1, 3*batchSize + 17, 5, batchSize, 2 * batchSize, batchSize / 2, batchSize - 100, 200} {
		name := fmt.Sprint("f", i)
		want[name] = strings.Repeat(fmt.Sprintf("%d,", i), size/2+1)[:size]
		entries = append(entries, file(name, want[name]))
	}
	for i := range 2 * batchParts {
		name := fmt.Sprint("small", i)
		want[name] = name
		entries = append(entries, file(name, name))
	}
	stats, err := apply(t, root, Options{}, pack(t, entries...))
	check(t, err)
	var total int64
	for name, content := range want {
		total += int64(len(content))
		if data, err := root.ReadFile(name, 1<<30); err != nil || string(data) != content {
			t.Errorf("%s: %d bytes, want %d; %v", name, len(data), len(content), err)
		}
	}
	if stats.Bytes != total || stats.Entries != len(entries) {
		t.Errorf("%+v", stats)
	}
}

func TestSparse(t *testing.T) {
	root, host := newRoot(t)
	src := filepath.Join(t.TempDir(), "sparse")
	f, err := os.Create(src)
	check(t, err)
	check(t, f.Truncate(64<<20))
	_, err = f.WriteAt([]byte("data"), 32<<20)
	check(t, err)
	check(t, f.Close())
	for format, options := range map[string][]string{"gnu": {"-S", "--format=gnu"}, "posix": {"-S", "--format=posix"}, "zeros": nil} {
		archive, err := exec.Command("tar", append(options, "-C", filepath.Dir(src), "-cf", "-", "sparse")...).Output()
		check(t, err)
		if len(archive) > 1<<20 && format != "zeros" {
			t.Fatalf("tar made no sparse archive: %d bytes", len(archive))
		}
		_, err = apply(t, root, Options{}, archive)
		check(t, err)
		got, err := os.ReadFile(filepath.Join(host, "sparse"))
		check(t, err)
		if len(got) != 64<<20 || string(got[32<<20:32<<20+4]) != "data" {
			t.Errorf("%s: %d bytes", format, len(got))
		}
		var st unix.Stat_t
		check(t, unix.Stat(filepath.Join(host, "sparse"), &st))
		if st.Blocks > 8<<20/512 {
			t.Errorf("%s: the holes take %d blocks", format, st.Blocks)
		}
	}
}

func TestCancel(t *testing.T) {
	root, _ := newRoot(t)
	ctx, cancel := context.WithCancel(context.Background())
	endless := fileMode("zeros", "", 0o644)
	endless.Size = 1 << 40
	var hdr bytes.Buffer
	check(t, tar.NewWriter(&hdr).WriteHeader(&endless))
	time.AfterFunc(50*time.Millisecond, cancel)
	start := time.Now()
	_, err := Apply(ctx, root, io.MultiReader(&hdr, zeroReader{}), Options{})
	if err != context.Canceled || time.Since(start) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// The stream is read to its end, and what it says there is heard.
func TestStreamEnd(t *testing.T) {
	root, _ := newRoot(t)
	broken := errors.New("checksum mismatch")
	stream := io.MultiReader(bytes.NewReader(pack(t, file("f", "1"))), bytes.NewReader(make([]byte, 1<<20)), failing{broken})
	if _, err := Apply(context.Background(), root, stream, Options{}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("mounting needs root: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	root, err := rootfs.Open(dir, rootfs.GuestLinks)
	check(t, err)
	defer root.Close()
	_, err = apply(t, root, Options{}, pack(t, file("small", "1"), file("usr/big", strings.Repeat("x", 1<<20)), file("after", "1")))
	var pe *fs.PathError
	if !errors.Is(err, unix.ENOSPC) || !errors.As(err, &pe) || !strings.HasPrefix(err.Error(), `apply entry "usr/big": `) {
		t.Errorf("got %v", err)
	}
}
