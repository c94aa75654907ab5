package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"proot-distro/internal/container"
	"proot-distro/internal/host"
	"proot-distro/internal/report"
)

const record = `{"image_ref": "debian:12", "arch": "x86_64", "mine": 1, "manifest": {"schemaVersion": 2,
"mediaType": "application/vnd.oci.image.manifest.v1+json",
"config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2,
"digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}, "layers": []}, "image_config": {}}`

// entry is "name", or "name=content" for a file, "name→target" for a symbolic and "name⇒target" for a hard link;
// "name/" is a directory.
func header(entry string) (tar.Header, string) {
	hdr := tar.Header{Typeflag: tar.TypeReg, Mode: 0o644, ModTime: time.Unix(1e9, 0)}
	for sep, flag := range map[string]byte{"=": tar.TypeReg, "→": tar.TypeSymlink, "⇒": tar.TypeLink, "!": tar.TypeChar} {
		name, rest, ok := strings.Cut(entry, sep)
		if !ok {
			continue
		}
		hdr.Name, hdr.Typeflag = name, flag
		if flag == tar.TypeReg {
			hdr.Size = int64(len(rest))
			return hdr, rest
		}
		hdr.Linkname = rest
		return hdr, ""
	}
	hdr.Name = entry
	if strings.HasSuffix(entry, "/") {
		hdr.Typeflag, hdr.Mode = tar.TypeDir, 0o755
	}
	return hdr, ""
}

func pack(t testing.TB, entries ...string) []byte {
	t.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, e := range entries {
		hdr, content := header(e)
		if err := w.WriteHeader(&hdr); err != nil {
			t.Fatalf("%q: %v", e, err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

// world is a state directory with something beside it.
type world struct {
	dir   string
	dirs  host.Dirs
	store *container.Store
}

func newWorld(t testing.TB) world {
	t.Helper()
	dir := t.TempDir()
	dirs := host.Dirs{Runtime: filepath.Join(dir, "state"), Cache: filepath.Join(dir, "cache")}
	if err := os.WriteFile(filepath.Join(dir, "canary"), []byte("alive"), 0o600); err != nil {
		t.Fatal(err)
	}
	return world{dir, dirs, container.NewStore(dirs)}
}

func (w world) restore(name string, archive []byte) ([]string, error) {
	return Restore(context.Background(), RestoreRequest{
		Source: bytes.NewReader(archive), Name: name, Containers: w.dirs.Containers(), Store: w.store, Report: report.Discard,
	})
}

// files lists what is below containers/: "box/rootfs/etc/passwd=content", directories without a slash.
func (w world) files(t testing.TB) (found []string) {
	t.Helper()
	root := w.dirs.Containers()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == root {
			return ignoreMissing(err)
		}
		rel := strings.TrimPrefix(name, root+"/")
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(name)
			found = append(found, rel+"→"+target)
			return err
		case d.Type().IsRegular():
			content, err := os.ReadFile(name)
			found = append(found, rel+"="+string(content))
			return err
		}
		found = append(found, rel)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// untouched checks that only the state directory was written to, and that nothing is left in staging.
func (w world) untouched(t testing.TB) {
	t.Helper()
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains([]string{"canary", "state", "cache"}, e.Name()) {
			t.Errorf("%s appeared beside the state directory", e.Name())
		}
	}
	if content, err := os.ReadFile(filepath.Join(w.dir, "canary")); string(content) != "alive" {
		t.Errorf("the file beside the state directory: %q, %v", content, err)
	}
	staged, err := os.ReadDir(w.dirs.Staging())
	if ignoreMissing(err) != nil || len(staged) > 0 {
		t.Errorf("left in staging: %v, %v", staged, err)
	}
}

func TestRestoreShapes(t *testing.T) {
	for name, tc := range map[string]struct {
		entries []string
		as      string
		want    []string
	}{
		"ours": {
			[]string{"box/rootfs/", "box/rootfs/etc/", "box/rootfs/etc/hosts=h", "box/rootfs/etc/link→/etc/hosts"}, "",
			[]string{"box", "box/rootfs", "box/rootfs/etc", "box/rootfs/etc/hosts=h", "box/rootfs/etc/link→/etc/hosts"},
		},
		"with dots": {
			[]string{"./", "./box/", "./box/rootfs/", "./box/rootfs/f=1"}, "",
			[]string{"box", "box/rootfs", "box/rootfs/f=1"},
		},
		"absolute": {
			[]string{"/box/rootfs/f=1"}, "", []string{"box", "box/rootfs", "box/rootfs/f=1"},
		},
		"legacy": {
			[]string{"installed-rootfs/", "installed-rootfs/box/", "installed-rootfs/box/f=1", "installed-rootfs/box/g⇒installed-rootfs/box/f"}, "",
			[]string{"box", "box/rootfs", "box/rootfs/f=1", "box/rootfs/g=1"},
		},
		"two containers": {
			[]string{"a/rootfs/f=1", "b/rootfs/f=2", "a/rootfs/g⇒a/rootfs/f"}, "",
			[]string{"a", "a/rootfs", "a/rootfs/f=1", "a/rootfs/g=1", "b", "b/rootfs", "b/rootfs/f=2"},
		},
		"another name": {
			[]string{"box/rootfs/f=1", "box/rootfs/g⇒box/rootfs/f"}, "new",
			[]string{"new", "new/rootfs", "new/rootfs/f=1", "new/rootfs/g=1"},
		},
		"devices are left out": {
			[]string{"box/rootfs/null!", "box/rootfs/also⇒box/rootfs/null", "box/rootfs/f=1"}, "",
			[]string{"box", "box/rootfs", "box/rootfs/f=1"},
		},
		"a whole directory of ours": {
			[]string{"box/", "box/no-l2s=", "box/moved-from=/old", "box/rootfs/f=1", "box/shm/", "box/shm/x=1", "box/sysdata/stat=1", "box/userns=full"}, "",
			[]string{"box", "box/rootfs", "box/rootfs/f=1"},
		},
		"an empty rootfs": {[]string{"box/rootfs/"}, "", []string{"box", "box/rootfs"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if _, err := w.restore(tc.as, pack(t, tc.entries...)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, w.files(t)); diff != "" {
				t.Error(diff)
			}
			w.untouched(t)
		})
	}
}

// Whatever is wrong with an archive, the container that it should replace stays as it is.
func TestRestoreRefuses(t *testing.T) {
	whole := pack(t, "box/rootfs/f="+strings.Repeat("1", 1000))
	for name, tc := range map[string]struct {
		archive []byte
		as      string
		want    error
		text    string
	}{
		"nothing":            {pack(t), "", ErrNotBackup, ""},
		"not tar":            {[]byte(strings.Repeat("no archive ", 100)), "", nil, "not a tar archive"},
		"cut":                {whole[:1000], "", nil, "cut short"},
		"bare root":          {pack(t, "./", "./bin/", "./bin/sh=1"), "", ErrNotBackup, "bin/sh"},
		"bare file":          {pack(t, "hello=1"), "", ErrNotBackup, "hello"},
		"bare link":          {pack(t, "bin→usr/bin"), "", ErrNotBackup, "bin"},
		"record only":        {pack(t, "box/manifest.json="+record), "", ErrNotBackup, "box"},
		"dots":               {pack(t, "box/rootfs/f=1", "box/rootfs/../../../../canary=dead"), "", nil, ".."},
		"name of dots":       {pack(t, "../rootfs/f=1"), "", ErrNotBackup, ".."},
		"name with a space":  {pack(t, "a b/rootfs/f=1"), "", ErrNotBackup, "a b"},
		"legacy, no name":    {pack(t, "installed-rootfs/../f=1"), "", ErrNotBackup, ".."},
		"link to a sibling":  {pack(t, "other/rootfs/f=1", "box/rootfs/g⇒other/rootfs/f"), "", nil, "same container"},
		"link to the record": {pack(t, "box/manifest.json="+record, "box/rootfs/g⇒box/manifest.json"), "", nil, "same container"},
		"link to nothing":    {pack(t, "box/rootfs/g⇒box/rootfs/none"), "", fs.ErrNotExist, "does not exist"},
		"record is a link":   {pack(t, "box/rootfs/f=1", "box/manifest.json→/etc/passwd"), "", ErrNotBackup, "manifest.json"},
		"record is garbage":  {pack(t, "box/rootfs/f=1", "box/manifest.json=garbage"), "", nil, "manifest.json"},
		"huge record":        {pack(t, "box/manifest.json="+strings.Repeat(" ", 16<<20+1)), "", nil, "16 MiB"},
		"two for one name":   {pack(t, "box/rootfs/f=1", "other/rootfs/f=2"), "box", nil, "--name"},
		"bad new name":       {whole, "../box", nil, "../box"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if _, err := w.restore("", pack(t, "box/manifest.json="+record, "box/rootfs/old=1")); err != nil {
				t.Fatal(err)
			}
			before := w.files(t)
			_, err := w.restore(tc.as, tc.archive)
			if err == nil || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("error: %v", err)
			}
			if diff := cmp.Diff(before, w.files(t)); diff != "" {
				t.Error(diff)
			}
			w.untouched(t)
		})
	}
}

// The end of the context is noticed while nothing arrives, before the first byte and after some.
func TestRestoreInterrupted(t *testing.T) {
	for _, first := range [][]byte{nil, pack(t, "box/rootfs/f=1")[:1024]} {
		w := newWorld(t)
		silent, in := io.Pipe()
		defer in.Close()
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(50*time.Millisecond, cancel)
		go in.Write(first)
		_, err := Restore(ctx, RestoreRequest{Source: silent, Containers: w.dirs.Containers(), Store: w.store, Report: report.Discard})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("after %d bytes: %v", len(first), err)
		}
		w.untouched(t)
	}
}

func TestRestoreOver(t *testing.T) {
	w := newWorld(t)
	for _, archive := range [][]byte{
		pack(t, "box/manifest.json="+record, "box/rootfs/old=1"),
		pack(t, "box/rootfs/new=1"),
	} {
		if _, err := w.restore("", archive); err != nil {
			t.Fatal(err)
		}
	}
	// Neither old files nor the old record remain.
	if diff := cmp.Diff([]string{"box", "box/rootfs", "box/rootfs/new=1"}, w.files(t)); diff != "" {
		t.Error(diff)
	}
}

func TestRestoreRecord(t *testing.T) {
	w := newWorld(t)
	if _, err := w.restore("", pack(t, "box/manifest.json="+record, "box/rootfs/")); err != nil {
		t.Fatal(err)
	}
	c, err := w.store.Open("box", container.Shared, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r, err := c.Record()
	if err != nil || r.ImageRef != "debian:12" || string(r.Extra["mine"]) != "1" {
		t.Errorf("%+v, %v", r, err)
	}
}

// A container in use is not replaced, and neither are the others of the same archive.
func TestRestoreBusy(t *testing.T) {
	w := newWorld(t)
	if _, err := w.restore("", pack(t, "a/rootfs/old=1", "b/rootfs/old=1")); err != nil {
		t.Fatal(err)
	}
	held, err := w.store.Open("b", container.Shared, "login")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	before := w.files(t)
	_, err = w.restore("", pack(t, "a/rootfs/new=1", "b/rootfs/new=1"))
	if busy := (*container.BusyError)(nil); !errors.As(err, &busy) || busy.Name != "b" {
		t.Errorf("error: %v", err)
	}
	if diff := cmp.Diff(before, w.files(t)); diff != "" {
		t.Error(diff)
	}
	w.untouched(t)
}

// Stand-ins that an archive of the Python program holds as they are lead to where the container is now.
func TestRestoreStandIns(t *testing.T) {
	const was = "/data/data/com.termux/files/usr/var/lib/proot-distro/containers/box/rootfs/"
	for _, as := range []string{"", "new"} {
		w := newWorld(t)
		names, err := w.restore(as, pack(t, "box/rootfs/perl→"+was+".l2s/.l2s.perl0001",
			"box/rootfs/.l2s/.l2s.perl0001→"+was+".l2s/.l2s.perl0001.0002", "box/rootfs/.l2s/.l2s.perl0001.0002=p",
			"box/rootfs/plain→"+was+"etc/passwd"))
		if err != nil {
			t.Fatal(err)
		}
		name, root := names[0], filepath.Join(w.dirs.Containers(), names[0], "rootfs")
		want := []string{name, name + "/rootfs", name + "/rootfs/.l2s",
			name + "/rootfs/.l2s/.l2s.perl0001→" + root + "/.l2s/.l2s.perl0001.0002", name + "/rootfs/.l2s/.l2s.perl0001.0002=p",
			name + "/rootfs/perl→" + root + "/.l2s/.l2s.perl0001", name + "/rootfs/plain→" + was + "etc/passwd"}
		if diff := cmp.Diff(want, w.files(t)); diff != "" {
			t.Error(diff)
		}
	}
}
