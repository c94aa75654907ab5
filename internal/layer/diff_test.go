package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"proot-distro/internal/rootfs"
)

// snapshotOf takes a snapshot.
func snapshotOf(t testing.TB, root *rootfs.FS) *Tree {
	t.Helper()
	tree, err := Snapshot(context.Background(), root, nil)
	check(t, err)
	return tree
}

// diffOf gives a layer's bytes.
func diffOf(t testing.TB, root *rootfs.FS, before *Tree, o DiffOptions) ([]byte, DiffStats) {
	t.Helper()
	var buf bytes.Buffer
	stats, err := Diff(context.Background(), root, before, &buf, o)
	check(t, err)
	return buf.Bytes(), stats
}

// entriesOf lists a layer's entries: "usr/ dir 755", "usr/a file 644 text", "usr/b hard usr/a".
func entriesOf(t testing.TB, archive []byte) []string {
	t.Helper()
	var lines []string
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		hdr, err := r.Next()
		if err == io.EOF {
			return lines
		}
		check(t, err)
		switch hdr.Typeflag {
		case tar.TypeDir:
			lines = append(lines, fmt.Sprintf("%s dir %o", hdr.Name, hdr.Mode))
		case tar.TypeReg:
			content, err := io.ReadAll(r)
			check(t, err)
			lines = append(lines, strings.TrimSuffix(fmt.Sprintf("%s file %o %s", hdr.Name, hdr.Mode, content), " "))
		case tar.TypeSymlink:
			lines = append(lines, fmt.Sprintf("%s link %s", hdr.Name, hdr.Linkname))
		case tar.TypeLink:
			lines = append(lines, fmt.Sprintf("%s hard %s", hdr.Name, hdr.Linkname))
		default:
			t.Errorf("%s has the type %q", hdr.Name, hdr.Typeflag)
		}
	}
}

// script runs a shell command in a directory.
func script(t testing.TB, dir, command string) {
	t.Helper()
	out, err := exec.Command("sh", "-c", "set -e; umask 022; cd \"$1\"; "+command, "sh", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// diffTests are changes of a tree and the layer that they make.
var diffTests = []struct{ name, before, change, want string }{
	{"nothing", "mkdir d; echo 1 >d/f", ":", ""},
	{"time of a directory", "mkdir d; touch d/f", "touch d/g; rm d/g; touch -d 2001-01-01 d", ""},
	{"read", "echo 1 >f", "cat f", ""},
	{"new file", "mkdir -p a/b", "printf x >a/b/f", "a/ dir 755|a/b/ dir 755|a/b/f file 644 x"},
	{"content, same size and time", "printf x >f; touch -d 2001-01-01 f", "printf y >f; touch -d 2001-01-01 f", "f file 644 y"},
	{"mode", "mkdir d; printf x >d/f", "chmod 4711 d/f", "d/ dir 755|d/f file 4711 x"},
	{"mode of a directory", "mkdir d; printf x >d/f", "chmod 1777 d", "d/ dir 1777"},
	{"time", "printf x >f", "touch -d 2001-01-01 f", "f file 644 x"},
	{"link target", "ln -s a l", "ln -sfn b l", "l link b"},
	{"gone", "mkdir d; touch d/f d/g", "rm d/f", "d/ dir 755|d/.wh.f file 0"},
	{"gone with content", "mkdir -p d/e; touch d/e/f", "rm -r d", ".wh.d file 0"},
	{"file in place of a directory", "mkdir -p d; touch d/f", "rm -r d; printf x >d", "d file 644 x"},
	{"link in place of a directory", "mkdir -p d; touch d/f", "rm -r d; ln -s . d", "d link ."},
	{"directory in place of a file", "touch d", "rm d; mkdir d; printf x >d/f", "d/ dir 755|d/f file 644 x"},
	{"directory in place of another", "mkdir d n; printf x >d/f; printf y >n/g", "rm -r d; mv n d",
		"d/ dir 755|d/.wh..wh..opq file 0|d/g file 644 y|.wh.n file 0"},
	{"directory made anew", "mkdir -p d/s; printf x >d/f; printf x >d/s/g", "rm -r d; mkdir -p d/s; printf y >d/g; printf y >d/s/g",
		"d/ dir 755|d/.wh..wh..opq file 0|d/g file 644 y|d/s/ dir 755|d/s/g file 644 y"},
	{"directories made anew in one made anew", "mkdir -p d/s/t; printf x >d/s/f; touch d/g d/s/t/h", "rm -r d; mkdir -p d/s/t; printf y >d/g",
		"d/ dir 755|d/g file 644 y|d/s/ dir 755|d/s/.wh..wh..opq file 0|d/s/t/ dir 755"},
	{"directory made anew with the same names", "mkdir -p d; printf x >d/f", "rm -r d; mkdir -p d; printf y >d/f",
		"d/ dir 755|d/f file 644 y"},
	{"directory emptied", "mkdir -p d/s; touch d/s/f d/s/g", "rm -r d/s/*", "d/ dir 755|d/s/ dir 755|d/s/.wh..wh..opq file 0"},
	{"directory nearly emptied", "mkdir -p d/s; touch d/s/f d/s/g d/h", "rm d/s/f d/h",
		"d/ dir 755|d/.wh.h file 0|d/s/ dir 755|d/s/.wh.f file 0"},
	{"directory moved, with old content into another", "mkdir d d/s n; printf x >d/s/f", "mv d/s n; rmdir d; mv n d",
		".wh.n file 0"},
	{"opened for writing", "printf x >f", "exec 3<>f", ""},
	{"as it was, but another file", "printf x >f", "cp -p f g; mv g f", "f file 644 x"},
	{"directory renamed", "mkdir d; printf x >d/f", "mv d e", ".wh.d file 0|e/ dir 755|e/f file 644 x"},
	{"hard link to an old file", "printf x >a", "ln a b", "a file 644 x|b hard a"},
	{"hard links, one changed", "mkdir d; printf x >a; ln a d/b", "printf y >a", "a file 644 y|d/ dir 755|d/b hard a"},
	{"hard link, its directory moved", "mkdir d; printf x >a; ln a d/b", "mv d e",
		"a file 644 x|.wh.d file 0|e/ dir 755|e/b hard a"},
	{"hard link taken away", "printf x >a; ln a b", "rm b", "a file 644 x|.wh.b file 0"},
	{"hard link of a link", "ln -s x a", "ln -P a b", "a link x|b hard a"},
	{"not for layers", "mkfifo p; touch f", "rm f; mkfifo f; rm p; mkfifo p; printf x >.wh.x; mkdir .wh..wh..opq", ".wh.f file 0"},
	{"replaced what is not for layers", "mkfifo p", "rm p; printf x >p", "p file 644 x"},
	{"proot's store", "mkdir .l2s; touch .l2s/x", "rm -r .l2s; mkdir .l2s; touch .l2s/y", ""},
}

func TestDiff(t *testing.T) {
	for _, test := range diffTests {
		t.Run(test.name, func(t *testing.T) {
			root, host := newRoot(t)
			script(t, host, test.before)
			before := snapshotOf(t, root)
			script(t, host, test.change)
			archive, stats := diffOf(t, root, before, DiffOptions{})
			want := slices.DeleteFunc(strings.Split(test.want, "|"), func(s string) bool { return s == "" })
			got := entriesOf(t, archive)
			if diff := cmp.Diff(want, got, cmp.Comparer(slices.Equal[[]string])); diff != "" {
				t.Errorf("got %q\n%s", got, diff)
			}
			if stats.Entries != len(want) {
				t.Errorf("%d entries counted", stats.Entries)
			}
			if again, stats := diffOf(t, root, stats.After, DiffOptions{}); stats.Entries != 0 {
				t.Errorf("a second diff has %q", entriesOf(t, again))
			}
		})
	}
}

func TestDiffOptions(t *testing.T) {
	root, host := newRoot(t)
	script(t, host, "mkdir -p d/e dev; printf x >d/e/f; printf y >g; printf z >dev/null; ln -s g l; touch -d @1700000000.7 g; touch -d @1500000000.7 d/e/f")
	epoch := time.Unix(1_600_000_000, 0)
	skip := func(path string) bool { return path == "/dev" || path == "/d/e/skipped" }
	archive, _ := diffOf(t, root, nil, DiffOptions{
		Skip:  skip,
		Epoch: &epoch,
		Owner: func(path string) (int, int) {
			if strings.HasPrefix(path, "/d/") {
				return 1000, len(path)
			}
			return 0, 0
		},
	})
	var got []string
	r := tar.NewReader(bytes.NewReader(archive))
	for hdr, err := r.Next(); err == nil; hdr, err = r.Next() {
		if hdr.Format != tar.FormatUSTAR {
			t.Errorf("%s has the format %v", hdr.Name, hdr.Format)
		}
		if !hdr.AccessTime.IsZero() || !hdr.ChangeTime.IsZero() || hdr.Uname+hdr.Gname != "" {
			t.Errorf("%s says too much: %+v", hdr.Name, hdr)
		}
		got = append(got, fmt.Sprintf("%s %d:%d %d", hdr.Name, hdr.Uid, hdr.Gid, hdr.ModTime.Unix()))
	}
	want := []string{
		"d/ 0:0 1600000000", "d/e/ 1000:4 1600000000", "d/e/f 1000:6 1500000000", "g 0:0 1600000000", "l 0:0 1600000000",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// What the snapshot has but the diff skips is not gone.
	before := snapshotOf(t, root)
	if archive, stats := diffOf(t, root, before, DiffOptions{Skip: skip}); stats.Entries != 0 {
		t.Errorf("skipped entries are in the layer: %q", entriesOf(t, archive))
	}
}

func TestDiffNames(t *testing.T) {
	root, host := newRoot(t)
	long := strings.Repeat("d", 200)
	names := []string{long + "/" + long + "/" + long, "grüße", "\xff\xfe", "new\nline", "star*", "-rf", "a b", "back\\slash"}
	for _, name := range names {
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(host, name)), 0o755))
		check(t, os.WriteFile(filepath.Join(host, name), []byte(name), 0o644))
	}
	check(t, os.Symlink(strings.Repeat("t", 300), filepath.Join(host, "l")))
	archive, _ := diffOf(t, root, nil, DiffOptions{})
	copied, target := newRoot(t)
	_, err := apply(t, copied, Options{Whiteouts: true}, archive)
	check(t, err)
	if diff := cmp.Diff(list(t, host, ""), list(t, target, "")); diff != "" {
		t.Error(diff)
	}
}

func TestDiffClosedEntries(t *testing.T) {
	if !asUser(t) {
		return
	}
	root, host := newRoot(t)
	script(t, host, "mkdir -p a/b/c; printf x >a/b/c/f; printf y >a/g; chmod 0 a/b/c/f a/g a/b/c; chmod 100 a/b; chmod 0 a")
	archive, stats := diffOf(t, root, nil, DiffOptions{})
	want := []string{"a/ dir 0", "a/b/ dir 100", "a/b/c/ dir 0", "a/b/c/f file 0 x", "a/g file 0 y"}
	if diff := cmp.Diff(want, entriesOf(t, archive)); diff != "" {
		t.Error(diff)
	}
	if again, stats := diffOf(t, root, stats.After, DiffOptions{}); stats.Entries != 0 {
		t.Errorf("packing has changed %q", entriesOf(t, again))
	}
	for _, step := range []struct{ path, open string }{{"a", "0"}, {"a/b", "100"}, {"a/b/c", "0"}, {"a/b/c/f", "0"}} {
		var st unix.Stat_t
		check(t, unix.Lstat(filepath.Join(host, step.path), &st))
		if got := fmt.Sprintf("%o", st.Mode&0o7777); got != step.open {
			t.Errorf("%s has the mode %s afterwards", step.path, got)
		}
		check(t, os.Chmod(filepath.Join(host, step.path), 0o700))
	}
}

// changingWriter changes the tree when the first bytes come.
type changingWriter struct{ change func() }

func (w *changingWriter) Write(p []byte) (int, error) {
	if w.change != nil {
		w.change()
		w.change = nil
	}
	return len(p), nil
}

func TestDiffChangingEntries(t *testing.T) {
	for name, change := range map[string]string{
		"grown":                    "echo more >>z",
		"cut":                      ": >z",
		"gone":                     "rm z",
		"replaced by a link":       "ln -sf a z",
		"replaced by a FIFO":       "rm z; mkfifo z",
		"replaced by another":      "cp z y; mv y z",
		"link replaced":            "rm zz; echo 1 >zz",
		"cut while being read":     "truncate -s 4096 a",
		"written while being read": "printf x | dd of=a bs=1 seek=900000 conv=notrunc",
	} {
		t.Run(name, func(t *testing.T) {
			root, host := newRoot(t)
			script(t, host, "truncate -s 1000000 a; echo text >z; ln -s a zz")
			w := &changingWriter{func() { script(t, host, change) }}
			_, err := Diff(context.Background(), root, nil, w, DiffOptions{})
			if !errors.Is(err, ErrChanging) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestDiffCancelled(t *testing.T) {
	root, host := newRoot(t)
	script(t, host, "touch a b c")
	ctx, cancel := context.WithCancel(context.Background())
	w := &changingWriter{cancel}
	if _, err := Diff(ctx, root, nil, w, DiffOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := Snapshot(ctx, root, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestDiffXattrs(t *testing.T) {
	root, host := newRoot(t)
	script(t, host, "mkdir -p d/e d/same; printf x >d/e/f; printf y >d/e/same")
	if err := unix.Setxattr(host, "user.probe", nil, 0); err != nil {
		t.Skipf("no extended attributes here: %v", err)
	}
	check(t, unix.Removexattr(host, "user.probe"))
	set := func(name, attr, value string) {
		t.Helper()
		check(t, unix.Setxattr(filepath.Join(host, name), attr, []byte(value), 0))
	}
	set("d/same", "user.s", "1")
	set("d/e", "user.gone", "1")
	before := snapshotOf(t, root)
	set("d/e/f", "user.a", "1\x00\xff")
	set("d/e/f", "user.empty", "")
	set("d/e/f", "user.a=b%3D", "3")
	set("d/e/f", "user.overlay.origin", "1")
	set("d", "user.b", "2")
	set("d", "user.overlay.opaque", "y")
	check(t, unix.Removexattr(filepath.Join(host, "d/e"), "user.gone"))
	archive, stats := diffOf(t, root, before, DiffOptions{})
	got := map[string]map[string]string{}
	r := tar.NewReader(bytes.NewReader(archive))
	for hdr, err := r.Next(); err == nil; hdr, err = r.Next() {
		got[hdr.Name] = hdr.PAXRecords
	}
	want := map[string]map[string]string{
		"d/":    {"SCHILY.xattr.user.b": "2"},
		"d/e/":  nil,
		"d/e/f": {"SCHILY.xattr.user.a": "1\x00\xff", "SCHILY.xattr.user.empty": "", "SCHILY.xattr.user.a%3Db%253D": "3"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	copied, copyHost := newRoot(t)
	_, err := apply(t, copied, Options{Whiteouts: true}, archive)
	check(t, err)
	if found := xattrs(filepath.Join(copyHost, "d/e/f")); found["user.a=b%3D"] != "3" || len(found) != 3 {
		t.Errorf("applied: %q", found)
	}
	if _, stats := diffOf(t, root, stats.After, DiffOptions{}); stats.Entries != 0 {
		t.Errorf("%d changes without one", stats.Entries)
	}
}

func TestPortableCapability(t *testing.T) {
	plain := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" // cap_net_raw=ep
	for name, test := range map[string]struct{ in, want string }{
		"without a root":   {plain, plain},
		"of a namespace":   {"\x01\x00\x00\x03" + plain[4:] + "\xe8\x03\x00\x00", plain},
		"of a later kind":  {"\x01\x00\x00\x04" + plain[4:] + "\xe8\x03\x00\x00", "\x01\x00\x00\x04" + plain[4:] + "\xe8\x03\x00\x00"},
		"something else":   {"x", "x"},
		"nothing whatever": {"", ""},
	} {
		if got := portableCapability(test.in); got != test.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
