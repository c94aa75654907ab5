package transfer

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestCopyRules(t *testing.T) {
	hostTree := []string{"f=new", "d/a=1", "d/sub/b=2", "d/l->a", "link->f", "dirlink->d", "nowhere->gone", "links/passwd->../f", "links/d->../d"}
	boxTree := []string{"etc/passwd=root", "etc/alias->/etc/passwd", "run/", "var/run->/run", "var/up->../../../../etc",
		"etc/nowhere->gone", "have/d/kept=k", "have/f=old", "have/link->/etc/passwd", "have/d2=file"}
	for _, c := range []struct {
		from, to, want string // want: the listing of the parent of to's counterpart
		o              CopyOptions
		in, err        string
	}{
		{from: "f", to: "box:/new", in: "box:/new", want: "new"},
		{from: "f", to: "box:new", in: "box:/new", want: "new"},
		{from: "f", to: "box:/run/", in: "box:/run/f", want: "new"},
		{from: "f", to: "box:/var/run", in: "box:/run/f", want: "new"},
		{from: "f", to: "box:/var/run/g", in: "box:/run/g", want: "new"},
		{from: "f", to: "box:/var/up/g", in: "box:/etc/g", want: "new"},
		{from: "f", to: "box:/", in: "box:/f", want: "new"},
		{from: "f", to: "box:/have", in: "box:/have/f", want: "new"},
		{from: "f", to: "box:/have/link", in: "box:/etc/passwd", want: "new"},
		{from: "f", to: "box:/etc/nowhere", err: "box:/etc/nowhere is a link that leads nowhere"},
		{from: "f", to: "box:/none/g", err: "box:/none/g does not exist"},
		{from: "f", to: "box:/none/", err: "box:/none/ does not exist"},
		{from: "f", to: "box:/etc/passwd/g", err: "a part of the path is not a directory"},
		{from: "none", to: "box:/x", err: "none does not exist"},
		{from: "link", to: "box:/x", in: "box:/x", want: "new"},
		{from: "nowhere", to: "box:/x", err: "nowhere is a link that leads nowhere"},
		{from: "link", to: "box:/x", o: CopyOptions{Recursive: true}, in: "box:/x", want: "->f"},
		{from: "nowhere", to: "box:/x", o: CopyOptions{Recursive: true}, in: "box:/x", want: "->gone"},
		{from: "d", to: "box:/x", err: "d is a directory"},
		{from: "dirlink", to: "box:/x", err: "dirlink is a directory"},
		{from: "d", to: "box:/x", o: CopyOptions{Recursive: true}, in: "box:/x", want: "a=1 l->a sub/ sub/b=2"},
		{from: "d", to: "box:/x/", o: CopyOptions{Recursive: true}, in: "box:/x", want: "a=1 l->a sub/ sub/b=2"},
		{from: "dirlink/", to: "box:/x", o: CopyOptions{Recursive: true}, in: "box:/x", want: "a=1 l->a sub/ sub/b=2"},
		{from: "d", to: "box:/have", o: CopyOptions{Recursive: true}, in: "box:/have/d", want: "a=1 kept=k l->a sub/ sub/b=2"},
		{from: "d/.", to: "box:/run", o: CopyOptions{Recursive: true}, in: "box:/run", want: "a=1 l->a sub/ sub/b=2"},
		{from: "d/sub/..", to: "box:/run", o: CopyOptions{Recursive: true}, in: "box:/run", want: "a=1 l->a sub/ sub/b=2"},
		{from: "d", to: "box:/have/d2", o: CopyOptions{Recursive: true}, err: "box:/have/d2 is not a directory"},
		{from: "d/.", to: "box:/var/run", o: CopyOptions{Recursive: true}, in: "box:/run", want: "a=1 l->a sub/ sub/b=2"},
		{from: "f", to: "f", err: "are the same"},
		{from: "link", to: "f", err: "are the same"},
		{from: "d", to: "d/sub", o: CopyOptions{Recursive: true}, err: "cannot be copied into itself"},
		{from: "d", to: "d", o: CopyOptions{Recursive: true}, err: "cannot be copied into itself"},
		{from: "d", to: "d/new", o: CopyOptions{Recursive: true}, err: "cannot be copied into itself"},
		{from: "box:/", to: "box:/run/x", o: CopyOptions{Recursive: true}, err: "cannot be copied into itself"},
		{from: "/dev/null", to: "box:/x", err: "/dev/null is a device"},
		{from: "f", to: "/dev/null", err: "/dev/null is a device: only files are overwritten"},
		{from: "box:/etc/alias", to: "x", in: "x", want: "root"},
		{from: "box:/var/run", to: "other:/x", o: CopyOptions{Recursive: true}, in: "other:/x", want: "->/run"},
		{from: "box:/etc/alias", to: "x", o: CopyOptions{Recursive: true}, in: "x", want: "root"},
		{from: "box:/etc/nowhere", to: "x", o: CopyOptions{Recursive: true}, err: "box:/etc/nowhere is a link that leads nowhere"},
		{from: "box:/etc/passwd", to: "links", in: "links/passwd", want: "root"},
		{from: "box:/have/d", to: "links", o: CopyOptions{Recursive: true}, err: "links/d is not a directory"},
		{from: "box:/have", to: "other:/", o: CopyOptions{Recursive: true}, in: "other:/have", want: "d/ d/kept=k d2=file f=old link->/etc/passwd"},
		{from: "box:/", to: "x", o: CopyOptions{Recursive: true}, in: "x/have", want: "d/ d/kept=k d2=file f=old link->/etc/passwd"},
		{from: "f", to: "x", o: CopyOptions{Move: true}, in: "x", want: "new"},
		{from: "d", to: "box:/x", o: CopyOptions{Move: true, Recursive: true}, in: "box:/x", want: "a=1 l->a sub/ sub/b=2"},
		{from: "link", to: "box:/x", o: CopyOptions{Move: true}, in: "box:/x", want: "->f"},
		{from: "d", to: "box:/have", o: CopyOptions{Move: true, Recursive: true}, in: "box:/have/d", want: "a=1 kept=k l->a sub/ sub/b=2"},
		{from: "d/.", to: "box:/x", o: CopyOptions{Move: true, Recursive: true}, err: "cannot be moved"},
		{from: "box:/", to: "x", o: CopyOptions{Move: true, Recursive: true}, err: "cannot be moved"},
		{from: "d", to: "box:/x", o: CopyOptions{Move: true}, err: "is a directory"},
		{from: "", to: "box:/x", err: "is a directory"},
	} {
		t.Run(strings.ReplaceAll(c.from+" "+c.to, "/", "|"), func(t *testing.T) {
			w := newWorld(t)
			build(t, w.host, hostTree...)
			build(t, w.dirs["box"], boxTree...)
			_, err := w.copy(c.from, c.to, c.o)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, not %q", err, c.err)
				}
				return
			}
			check(t, err)
			if diff := cmp.Diff(c.want, content(t, w.path(c.in))); diff != "" {
				t.Error(diff)
			}
			_, err = os.Lstat(w.path(c.from))
			if gone := errors.Is(err, fs.ErrNotExist); gone != c.o.Move {
				t.Errorf("source: %v", err)
			}
			if left := leftovers(t, w); left != "" {
				t.Errorf("left behind: %s", left)
			}
		})
	}
}

// path is where an end without links is on the host.
func (w *world) path(text string) string {
	if name, path, ok := strings.Cut(text, ":"); ok {
		return filepath.Join(w.dirs[name], path)
	}
	return w.end(text).Path
}

// content describes a file, a link or a directory.
func content(t *testing.T, name string) string {
	info, err := os.Lstat(name)
	check(t, err)
	switch {
	case info.IsDir():
		return list(t, name)
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(name)
		check(t, err)
		return "->" + target
	}
	data, err := os.ReadFile(name)
	check(t, err)
	return string(data)
}

func leftovers(t *testing.T, w *world) (found string) {
	for _, dir := range []string{w.host, w.dirs["box"], w.dirs["other"]} {
		check(t, filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
			if strings.HasPrefix(filepath.Base(name), tempPrefix) {
				found += " " + name
			}
			return err
		}))
	}
	return found
}

// Modes and times are kept, whatever the umask; those of directories that are there
// already stay.
func TestCopyAttributes(t *testing.T) {
	w := newWorld(t)
	build(t, w.host, "d/f=x@4751", "d/closed/in=y@400", "d/l->f", "d/closed@555", "d@1777")
	defer os.Chmod(filepath.Join(w.host, "d/closed"), 0o755)
	build(t, w.dirs["box"], "have@1770")
	_, err := w.copy("d", "box:/x", CopyOptions{Recursive: true})
	check(t, err)
	defer os.Chmod(filepath.Join(w.dirs["box"], "x/closed"), 0o755)
	_, err = w.copy("d/.", "box:/have", CopyOptions{Recursive: true})
	check(t, err)
	defer os.Chmod(filepath.Join(w.dirs["box"], "have/closed"), 0o755)
	for name, want := range map[string]fs.FileMode{
		"x": fs.ModeDir | fs.ModeSticky | 0o777, "x/f": fs.ModeSetuid | 0o751, "x/closed": fs.ModeDir | 0o555,
		"x/closed/in": 0o400, "x/l": fs.ModeSymlink | 0o777, "have/f": fs.ModeSetuid | 0o751,
	} {
		info, err := os.Lstat(filepath.Join(w.dirs["box"], name))
		check(t, err)
		if info.Mode() != want || !info.ModTime().Equal(old) {
			t.Errorf("%s: %v %v", name, info.Mode(), info.ModTime())
		}
	}
	if info, err := os.Stat(filepath.Join(w.dirs["box"], "have")); err != nil || info.Mode() != fs.ModeDir|fs.ModeSticky|0o770 {
		t.Errorf("directory that was there: %v, %v", info.Mode(), err)
	}
}

// A program that a guest has made setuid would run as the caller on the host, whoever starts it.
func TestGuestsSetuidIsDropped(t *testing.T) {
	w := newWorld(t)
	build(t, w.dirs["box"], "d/su=x@6755", "d/s@2755")
	_, err := w.copy("box:/d", "copied", CopyOptions{Recursive: true})
	check(t, err)
	_, err = w.sync("box:/d", "synced", SyncOptions{})
	check(t, err)
	_, err = w.copy("box:/d", "box:/e", CopyOptions{Recursive: true})
	check(t, err)
	_, err = w.copy("box:/d", "moved", CopyOptions{Recursive: true, Move: true})
	check(t, err)
	for name, want := range map[string]fs.FileMode{
		"host/copied/su": 0o755, "host/synced/su": 0o755, "host/moved/su": 0o755, "box/e/su": 0o755 | fs.ModeSetuid | fs.ModeSetgid,
		"host/moved/s": 0o755 | fs.ModeSetgid | fs.ModeDir,
	} {
		where, name, _ := strings.Cut(name, "/")
		dir := map[string]string{"host": w.host, "box": w.dirs["box"]}[where]
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestForeignSetuidIsDropped(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root, who can own a file for another user")
	}
	w := newWorld(t)
	build(t, w.dirs["box"], "su=x")
	check(t, os.Chown(filepath.Join(w.dirs["box"], "su"), 1000, 1000))
	check(t, unix.Chmod(filepath.Join(w.dirs["box"], "su"), 0o6755))
	_, err := w.copy("box:/su", "su", CopyOptions{})
	check(t, err)
	if info, err := os.Stat(filepath.Join(w.host, "su")); err != nil || info.Mode() != 0o755 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// Holes stay holes, and contents are the same by every way of copying.
func TestContent(t *testing.T) {
	const size = 48 << 20
	w := newWorld(t)
	sparse := filepath.Join(w.host, "sparse")
	check(t, os.WriteFile(sparse, nil, 0o644))
	f, err := os.OpenFile(sparse, os.O_WRONLY, 0)
	check(t, err)
	_, err = f.WriteAt([]byte("middle"), size/2)
	check(t, err)
	check(t, f.Truncate(size))
	check(t, f.Close())
	check(t, os.WriteFile(filepath.Join(w.host, "empty"), nil, 0o644))
	check(t, os.WriteFile(filepath.Join(w.host, "exact"), bytes.Repeat([]byte("x"), fileSize), 0o644))
	check(t, os.WriteFile(filepath.Join(w.host, "large"), bytes.Repeat([]byte("0123456789"), 1<<20), 0o644))
	for _, fallback := range []bool{false, true} {
		for _, name := range []string{"sparse", "empty", "exact", "large"} {
			s, err := find(w.end(name), true)
			check(t, err)
			d, err := find(w.end("box:/"+name), true)
			check(t, err)
			p := begin(context.Background(), s.end, d.end, rules{temp: tempPrefix + "test"}, w.options())
			p.noClone.Store(fallback)
			p.noRange.Store(fallback)
			p.top(s, d)
			result, err := p.end()
			check(t, err)
			want, err := os.ReadFile(filepath.Join(w.host, name))
			check(t, err)
			got, err := os.ReadFile(filepath.Join(w.dirs["box"], name))
			check(t, err)
			if !bytes.Equal(got, want) || result.Bytes != int64(len(want)) {
				t.Errorf("%s, fallback %v: %d bytes that differ, %d counted", name, fallback, len(got), result.Bytes)
			}
		}
		var st unix.Stat_t
		check(t, unix.Stat(filepath.Join(w.dirs["box"], "sparse"), &st))
		if st.Blocks*512 > 1<<20 {
			t.Errorf("fallback %v: the hole was filled, %d blocks", fallback, st.Blocks)
		}
	}
	if _, err := w.copy("/proc/self/status", "box:/status", CopyOptions{}); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(filepath.Join(w.dirs["box"], "status")); !bytes.Contains(data, []byte("PPid:")) {
		t.Errorf("a file of /proc, whose size is 0: %q, %v", data, err)
	}
}

// A move by rename keeps the inode; one that has to leave something keeps the source.
func TestMove(t *testing.T) {
	w := newWorld(t)
	build(t, w.host, "d/f=x", "e/f=y")
	check(t, unix.Mkfifo(filepath.Join(w.host, "e/fifo"), 0o644))
	before, err := os.Stat(filepath.Join(w.host, "d/f"))
	check(t, err)
	r, err := w.copy("d", "box:/d", CopyOptions{Recursive: true, Move: true})
	check(t, err)
	after, err := os.Stat(filepath.Join(w.dirs["box"], "d/f"))
	check(t, err)
	if !r.Renamed || !os.SameFile(before, after) {
		t.Error("the file was copied")
	}
	build(t, w.dirs["box"], "e/have=z") // a directory to merge into, so no rename
	_, err = w.copy("e", "box:/", CopyOptions{Recursive: true, Move: true})
	var incomplete *IncompleteError
	if !errors.As(err, &incomplete) || !incomplete.Kept || incomplete.Count != 1 {
		t.Errorf("error: %v", err)
	}
	if got := list(t, w.host); got != "e/ e/f=y e/fifo p---------" {
		t.Errorf("source: %s", got)
	}
	if got := list(t, filepath.Join(w.dirs["box"], "e")); got != "f=y have=z" {
		t.Errorf("destination: %s", got)
	}
}

func TestSpecialFilesAreSkipped(t *testing.T) {
	w := newWorld(t)
	build(t, w.host, "d/f=x")
	check(t, unix.Mkfifo(filepath.Join(w.host, "d/fifo"), 0o644))
	r, err := w.copy("d", "box:/d", CopyOptions{Recursive: true})
	check(t, err)
	if r.Skipped != 1 || list(t, filepath.Join(w.dirs["box"], "d")) != "f=x" || !strings.Contains(w.said.String(), "fifo: a FIFO") {
		t.Errorf("%+v, %s", r, w.said)
	}
}

// What is closed to us is warned about and counted; where we may not write but may
// say so, we write and put the mode back.
func TestPermissions(t *testing.T) {
	if !asUser(t) {
		return
	}
	w := newWorld(t)
	build(t, w.host, "d/f=x", "d/secret=y@0", "d/closed/g=z", "d/closed@0")
	defer os.Chmod(filepath.Join(w.host, "d/closed"), 0o755)
	build(t, w.dirs["box"], "have/d/old=o", "have/d@500", "have@555")
	_, err := w.copy("d", "box:/have", CopyOptions{Recursive: true})
	var incomplete *IncompleteError
	if !errors.As(err, &incomplete) || incomplete.Count != 2 {
		t.Errorf("error: %v", err)
	}
	if said := w.said.String(); !strings.Contains(said, "warning: cannot read "+w.host+"/d/secret: permission denied") ||
		!strings.Contains(said, "d/closed: permission denied") {
		t.Errorf("said: %s", said)
	}
	_, err = w.copy("d/f", "box:/have/new", CopyOptions{})
	check(t, err)
	_, err = w.copy("d/f", "box:/have/moved", CopyOptions{Move: true})
	check(t, err)
	for name, want := range map[string]fs.FileMode{"have": 0o555, "have/d": 0o500, "have/d/closed": 0} {
		if info, err := os.Stat(filepath.Join(w.dirs["box"], name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if _, err := w.copy("d", "/proc/x", CopyOptions{Recursive: true}); err == nil || !strings.Contains(err.Error(), "/proc/x") {
		t.Errorf("a place that cannot be written: %v", err)
	}
	check(t, os.Chmod(filepath.Join(w.dirs["box"], "have"), 0o755))
	check(t, os.Chmod(filepath.Join(w.dirs["box"], "have/d"), 0o755))
	check(t, os.Chmod(filepath.Join(w.dirs["box"], "have/d/closed"), 0o755))
	if got := list(t, filepath.Join(w.dirs["box"], "have")); got != "d/ d/closed/ d/f=x d/old=o moved=x new=x" {
		t.Errorf("copied: %s", got)
	}
}

func TestCancelled(t *testing.T) {
	w := newWorld(t)
	build(t, w.host, "d/f=x")
	reason := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(reason)
	_, err := Copy(ctx, w.end("d"), w.end("box:/d"), CopyOptions{Options: w.options(), Recursive: true})
	if !errors.Is(err, reason) {
		t.Errorf("%v", err)
	}
	if left := leftovers(t, w); left != "" {
		t.Error(left)
	}
}
