package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestSyncRules(t *testing.T) {
	hostTree := []string{"d/a=1", "d/sub/b=2", "d/l->a", "f=new", "dirlink->d", "link->f"}
	boxTree := []string{"have/a=99", "have/extra/x=x", "have/sub=file", "have/l/in=in", "have/kept=k",
		"run/", "var/run->/run", "etc/dirs->dir", "etc/file=f"}
	for _, c := range []struct {
		name, from, to string
		o              SyncOptions
		in, want, err  string
	}{
		{name: "new directory", from: "d", to: "box:/x", in: "box:/x", want: "a=1 l->a sub/ sub/b=2"},
		{name: "missing parents", from: "d", to: "box:/x/y/z", in: "box:/x/y/z", want: "a=1 l->a sub/ sub/b=2"},
		{name: "through a link", from: "d", to: "box:/var/run", in: "box:/run", want: "a=1 l->a sub/ sub/b=2"},
		{name: "link to a directory", from: "dirlink", to: "box:/x", in: "box:/x", want: "a=1 l->a sub/ sub/b=2"},
		{name: "link to a file", from: "link", to: "box:/x", in: "box:/x", want: "->f"},
		{name: "link of a container", from: "box:/var/run", to: "x", in: "x", want: ""},
		{name: "link of a container to nothing", from: "box:/etc/dirs", to: "x", err: "a link that leads nowhere"},
		{name: "file", from: "f", to: "box:/x", in: "box:/x", want: "new"},
		{name: "file into a directory", from: "f", to: "box:/run", in: "box:/run/f", want: "new"},
		{name: "file into a new directory", from: "f", to: "box:/x/y/", in: "box:/x/y/f", want: "new"},
		{name: "merge", from: "d", to: "box:/have", in: "box:/have", err: "1 entry could not be copied",
			want: "a=1 extra/ extra/x=x kept=k l/ l/in=in sub/ sub/b=2"},
		{name: "delete", from: "d", to: "box:/have", o: SyncOptions{Delete: true}, in: "box:/have", want: "a=1 l->a sub/ sub/b=2"},
		{name: "delete with a file", from: "f", to: "box:/have/kept", o: SyncOptions{Delete: true}, in: "box:/have",
			want: "a=99 extra/ extra/x=x kept=new l/ l/in=in sub=file"},
		{name: "directory over a file", from: "d", to: "box:/etc/file", err: "box:/etc/file is not a directory"},
		{name: "file over a device", from: "f", to: "/dev/null", err: "/dev/null is a device: only files"},
		{name: "itself", from: "d", to: "d", err: "are the same"},
		{name: "into itself", from: "d", to: "d/sub", err: "cannot be copied into itself"},
		{name: "delete the source", from: "d/sub", to: "d", o: SyncOptions{Delete: true}, err: "--delete would delete the source"},
		{name: "nothing", from: "none", to: "box:/x", err: "none does not exist"},
		{name: "device", from: "/dev/null", to: "box:/x", err: "is a device"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			w := newWorld(t)
			build(t, w.host, hostTree...)
			build(t, w.dirs["box"], boxTree...)
			_, err := w.sync(c.from, c.to, c.o)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("error %v, not %q", err, c.err)
			}
			if c.in != "" {
				if diff := cmp.Diff(c.want, content(t, w.path(c.in))); diff != "" {
					t.Error(diff)
				}
			}
			if left := leftovers(t, w); left != "" {
				t.Errorf("left behind: %s", left)
			}
		})
	}
}

// The second time nothing is written: not one inode or time changes.
func TestSyncTwice(t *testing.T) {
	w := newWorld(t)
	build(t, w.host, "d/a=1@4711", "d/sub/b=2", "d/l->a", "d/sub@1770", "d@700")
	for _, o := range []SyncOptions{{}, {Checksum: true}, {Delete: true}} {
		first, err := w.sync("d", "box:/d", o)
		check(t, err)
		before := fingerprint(t, filepath.Join(w.dirs["box"], "d"))
		r, err := w.sync("d", "box:/d", o)
		check(t, err)
		if r.Copied != 0 || r.Same != 3 || r.Deleted != 0 || first.Copied+first.Same != 3 {
			t.Errorf("%+v: %+v, then %+v", o, first, r)
		}
		if diff := cmp.Diff(before, fingerprint(t, filepath.Join(w.dirs["box"], "d"))); diff != "" {
			t.Errorf("%+v: %s", o, diff)
		}
	}
}

// fingerprint maps names to inode, mode and times.
func fingerprint(t *testing.T, dir string) map[string]string {
	found := map[string]string{}
	check(t, filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		check(t, err)
		var st unix.Stat_t
		check(t, unix.Lstat(name, &st))
		found[name] = fmt.Sprint(st.Ino, st.Mode, st.Mtim, st.Ctim)
		return nil
	}))
	return found
}

func TestSyncUpdates(t *testing.T) {
	later := old.Add(time.Hour)
	for _, c := range []struct {
		name   string
		change func(name string) error
		o      SyncOptions
		copied int64
		same   bool // the destination keeps its content
	}{
		{"size", func(n string) error { return os.WriteFile(n, []byte("longer"), 0o644) }, SyncOptions{}, 1, false},
		{"time", func(n string) error { return os.Chtimes(n, later, later) }, SyncOptions{}, 1, false},
		{"fraction of a second", func(n string) error { t := old.Add(time.Millisecond); return os.Chtimes(n, t, t) }, SyncOptions{}, 0, true},
		{"content only", func(n string) error { return sameStat(n, "xyz") }, SyncOptions{}, 0, true},
		{"content only, by checksum", func(n string) error { return sameStat(n, "xyz") }, SyncOptions{Checksum: true}, 1, false},
		{"time, by checksum", func(n string) error { return os.Chtimes(n, later, later) }, SyncOptions{Checksum: true}, 0, false},
		{"mode", func(n string) error { return os.Chmod(n, 0o600) }, SyncOptions{}, 0, false},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			w := newWorld(t)
			build(t, w.host, "d/f=abc")
			_, err := w.sync("d", "box:/d", SyncOptions{})
			check(t, err)
			check(t, c.change(filepath.Join(w.host, "d/f")))
			r, err := w.sync("d", "box:/d", c.o)
			check(t, err)
			if r.Copied != c.copied {
				t.Errorf("%+v", r)
			}
			a, b := describeFile(t, filepath.Join(w.host, "d/f")), describeFile(t, filepath.Join(w.dirs["box"], "d/f"))
			if (a == b) == c.same {
				t.Errorf("source %s, destination %s", a, b)
			}
		})
	}
}

func describeFile(t *testing.T, name string) string {
	info, err := os.Stat(name)
	check(t, err)
	data, err := os.ReadFile(name)
	check(t, err)
	return fmt.Sprintf("%v %v %q", info.Mode(), info.ModTime().UnixNano(), data)
}

// sameStat changes a file's content but neither its size nor its time.
func sameStat(name, data string) error {
	return errors.Join(os.WriteFile(name, []byte(data), 0o644), os.Chtimes(name, old, old))
}

// What cannot be read is not known to be gone, so its counterpart stays; special files
// count as having one.
func TestDeleteSparesTheUnknown(t *testing.T) {
	if !asUser(t) {
		return
	}
	w := newWorld(t)
	build(t, w.host, "d/closed/x=x", "d/closed@0", "d/secret=s@0")
	defer os.Chmod(filepath.Join(w.host, "d/closed"), 0o755)
	check(t, unix.Mkfifo(filepath.Join(w.host, "d/fifo"), 0o644))
	build(t, w.dirs["box"], "d/closed/x=older", "d/secret=older", "d/fifo=file", "d/extra/deep/e=e", "d/extra@500")
	_, err := w.sync("d", "box:/d", SyncOptions{Delete: true})
	var incomplete *IncompleteError
	if !errors.As(err, &incomplete) {
		t.Errorf("error: %v", err)
	}
	check(t, os.Chmod(filepath.Join(w.dirs["box"], "d/closed"), 0o755))
	if got := list(t, filepath.Join(w.dirs["box"], "d")); got != "closed/ closed/x=older fifo=file secret=older" {
		t.Error(got)
	}
	if said := w.said.String(); !strings.Contains(said, "deleted box:/d/extra/deep/e") {
		t.Error(said)
	}
}

// Temporary files of a killed sync go with the next one; those of a living one and
// files that are only called alike stay.
func TestStaleTemporaryFiles(t *testing.T) {
	w := newWorld(t)
	build(t, w.host, "d/f=x", "d/.~pd_sync.4000000.1=mine")
	living := fmt.Sprintf(".~pd_sync.%d.7", os.Getpid())
	build(t, w.dirs["box"], "d/.~pd_sync.4194305.3=half", "d/.~pd_copy.4194305.9=half", "d/.~pd_notes=n", "d/"+living+"=l")
	_, err := w.sync("d", "box:/d", SyncOptions{})
	check(t, err)
	got := strings.Fields(list(t, filepath.Join(w.dirs["box"], "d")))
	want := []string{".~pd_notes=n", ".~pd_sync.4000000.1=mine", living + "=l", "f=x"}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Stand-ins are files to everybody but proot.
func TestStandIns(t *testing.T) {
	w := newWorld(t)
	root := w.dirs["box"]
	build(t, root, "bin/perl->"+root+"/.l2s/.l2s.perl0001", "bin/perl5->"+root+"/.l2s/.l2s.perl0001", "bin/alias->perl",
		"bin/forged->"+root+"/../../outside", "bin/far->/.l2s/.l2s.perl0001.0002",
		".l2s/.l2s.perl0001->"+root+"/.l2s/.l2s.perl0001.0002", ".l2s/.l2s.perl0001.0002=#!perl@755")
	want := "alias->perl far->/.l2s/.l2s.perl0001.0002 forged->" + root + "/../../outside perl=#!perl perl5=#!perl"

	_, err := w.copy("box:/bin", "bin", CopyOptions{Recursive: true})
	check(t, err)
	if got := list(t, filepath.Join(w.host, "bin")); got != want {
		t.Errorf("copy: %s", got)
	}
	if info, err := os.Stat(filepath.Join(w.host, "bin/perl")); err != nil || info.Mode() != 0o755 || !info.ModTime().Equal(old) {
		t.Errorf("copy: %v, %v", info, err)
	}
	for _, from := range []string{"box:/bin/perl", "box:/bin/alias", "box:bin/../bin/alias"} {
		_, err := w.copy(from, "perl", CopyOptions{})
		check(t, err)
		if got := content(t, w.path("perl")); got != "#!perl" {
			t.Errorf("%s: %s", from, got)
		}
		check(t, os.Remove(w.path("perl")))
	}
	for range 2 {
		r, err := w.sync("box:/", "other:/", SyncOptions{Delete: true})
		check(t, err)
		if got := list(t, w.dirs["other"]); got != "bin/ bin/"+strings.ReplaceAll(want, " ", " bin/") {
			t.Errorf("sync: %s, %+v", got, r)
		}
	}
	// Stand-ins of the destination keep what they need.
	_, err = w.sync("bin", "box:/bin", SyncOptions{Delete: true})
	check(t, err)
	build(t, w.host, "empty/bin/perl5=mine")
	_, err = w.sync("empty", "box:/", SyncOptions{Delete: true})
	check(t, err)
	if got := list(t, root); !strings.HasPrefix(got, ".l2s/ .l2s/.l2s.perl0001->") || !strings.HasSuffix(got, " bin/ bin/perl5=mine") {
		t.Errorf("destination: %s", got)
	}
}

// A rename would take stand-ins out of the tree that they lead into.
func TestMoveOfStandIns(t *testing.T) {
	w := newWorld(t)
	root := w.dirs["box"]
	build(t, root, "bin/perl->"+root+"/.l2s/.l2s.perl0001", ".l2s/.l2s.perl0001->"+root+"/.l2s/.l2s.perl0001.0001",
		".l2s/.l2s.perl0001.0001=#!perl")
	_, err := w.copy("box:/bin", "other:/bin", CopyOptions{Recursive: true, Move: true})
	check(t, err)
	if got := list(t, w.dirs["other"]); got != "bin/ bin/perl=#!perl" {
		t.Error(got)
	}
	if _, err := os.Lstat(filepath.Join(root, "bin")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("source: %v", err)
	}
}

func TestClone(t *testing.T) {
	if !asUser(t) {
		return
	}
	w := newWorld(t)
	root := w.dirs["box"]
	build(t, root, "bin/perl->"+root+"/.l2s/.l2s.perl0001", ".l2s/.l2s.perl0001->"+root+"/.l2s/.l2s.perl0001.0002",
		".l2s/.l2s.perl0001.0002=#!perl@755", "etc/shadow=s@0", "closed/in/i=i", "closed@0", "zlast=", "suid=x@4755", "empty/", "plain->"+root+"/x")
	check(t, os.Link(filepath.Join(root, "suid"), filepath.Join(root, "etc/linked")))
	check(t, os.Chmod(filepath.Join(root, "closed"), 0o755))
	check(t, os.Remove(filepath.Join(root, "zlast")))
	check(t, os.Link(filepath.Join(root, "closed/in/i"), filepath.Join(root, "zlast")))
	check(t, os.Chmod(filepath.Join(root, "closed"), 0))
	check(t, unix.Setxattr(filepath.Join(root, "suid"), "user.note", []byte("kept"), 0))
	check(t, os.Chmod(root, 0o700))
	box, other := w.end("box:/"), w.end("other:/")
	r, err := Clone(context.Background(), box, other, CloneOptions{Options: w.options(), NewRoot: "/new/rootfs"})
	check(t, err)
	for _, dir := range []string{root, w.dirs["other"]} {
		for name, want := range map[string]fs.FileMode{"closed": 0, "etc/shadow": 0, "suid": 0o755, ".": 0o700} {
			if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
				t.Errorf("%s in %s: %v, %v", name, dir, info, err)
			}
		}
		check(t, os.Chmod(filepath.Join(dir, "closed"), 0o755))
		check(t, os.Chmod(filepath.Join(dir, "etc/shadow"), 0o644))
	}
	want := strings.ReplaceAll(list(t, root), root+"/.l2s", "/new/rootfs/.l2s")
	if diff := cmp.Diff(want, list(t, w.dirs["other"])); diff != "" {
		t.Error(diff)
	}
	for _, pair := range [][2]string{{"suid", "etc/linked"}, {"closed/in/i", "zlast"}} {
		one, err := os.Stat(filepath.Join(w.dirs["other"], pair[0]))
		check(t, err)
		two, err := os.Stat(filepath.Join(w.dirs["other"], pair[1]))
		check(t, err)
		if !os.SameFile(one, two) || !one.ModTime().Equal(old) {
			t.Errorf("hard link: %v %v", one, two)
		}
	}
	var value [8]byte
	if n, err := unix.Getxattr(filepath.Join(w.dirs["other"], "suid"), "user.note", value[:]); err != nil || string(value[:n]) != "kept" {
		t.Errorf("attribute: %v", err)
	}
	if r.Copied != 9 {
		t.Errorf("%+v", r)
	}
}
