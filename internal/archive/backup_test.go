package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"proot-distro/internal/compression"
	"proot-distro/internal/container"
	"proot-distro/internal/report"
)

func (w world) backup(t *testing.T, name string, format compression.Format) []byte {
	t.Helper()
	c, err := w.store.Open(name, container.Shared, "backup")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var out bytes.Buffer
	if _, err := Backup(context.Background(), BackupRequest{Container: c, Format: format, Report: report.Discard}, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Backups of a container that did not change are the same, byte for byte, whenever they are made.
func TestBackupRepeats(t *testing.T) {
	w := newWorld(t)
	entries := []string{"box/manifest.json=" + record, "box/rootfs/"}
	for i := range 300 {
		entries = append(entries, fmt.Sprintf("box/rootfs/%d/%d=%d", i%7, i, i), fmt.Sprintf("box/rootfs/link%d⇒box/rootfs/%d/%d", i, i%7, i))
	}
	if _, err := w.restore("", pack(t, entries...)); err != nil {
		t.Fatal(err)
	}
	past := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	if err := os.Chtimes(filepath.Join(w.dirs.Containers(), "box/manifest.json"), past, past); err != nil {
		t.Fatal(err)
	}
	first := w.backup(t, "box", compression.None)
	hdr, err := tar.NewReader(bytes.NewReader(first)).Next()
	if err != nil || hdr.Name != "box/manifest.json" || !hdr.ModTime.Equal(past) {
		t.Errorf("the first entry: %v, %v", hdr, err)
	}
	for _, f := range []compression.Format{compression.None, compression.Gzip, compression.Bzip2, compression.XZ, compression.LZMA, compression.Zstd} {
		if !bytes.Equal(w.backup(t, "box", f), w.backup(t, "box", f)) {
			t.Errorf("%v: two backups differ", f)
		}
	}
}

// What a guest has put beside proot's own files in /.l2s is the guest's.
func TestBackupOfOwnFileAmongStandIns(t *testing.T) {
	w := newWorld(t)
	root := filepath.Join(w.dirs.Containers(), "box/rootfs")
	archive := pack(t, "box/rootfs/.l2s/", "box/rootfs/.l2s/note=mine", "box/rootfs/.l2s/.l2s.mine=mine too",
		"box/rootfs/.l2s/.l2s.perl0001→"+root+"/.l2s/.l2s.perl0001.0002", "box/rootfs/.l2s/.l2s.perl0001.0002=perl",
		"box/rootfs/perl→"+root+"/.l2s/.l2s.perl0001", "box/rootfs/perl5→"+root+"/.l2s/.l2s.perl0001")
	if _, err := w.restore("", archive); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	r := tar.NewReader(bytes.NewReader(w.backup(t, "box", compression.None)))
	for {
		hdr, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		found[strings.TrimPrefix(hdr.Name, "box/rootfs/")] = string(hdr.Typeflag) + hdr.Linkname + string(content)
	}
	want := map[string]string{"": "5", ".l2s/": "5", ".l2s/note": "0mine", ".l2s/.l2s.mine": "0mine too",
		"perl": "0perl", "perl5": "1box/rootfs/perl"}
	if fmt.Sprint(found) != fmt.Sprint(want) {
		t.Errorf("found\n%v, not\n%v", found, want)
	}
}

// A container in use is the matter, not the entry that was the first of it.
func TestRestoreOverBusyContainer(t *testing.T) {
	w := newWorld(t)
	archive := pack(t, "box/manifest.json="+record, "box/rootfs/a=b")
	if _, err := w.restore("", archive); err != nil {
		t.Fatal(err)
	}
	c, err := w.store.Open("box", container.Shared, "login")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = w.restore("", archive)
	busy := new(container.BusyError)
	if !errors.As(err, &busy) || err.Error() != busy.Error() {
		t.Errorf("%v", err)
	}
}

// What is deeper than any path can say would make an archive that cannot be restored.
func TestBackupOfDeepTree(t *testing.T) {
	w := newWorld(t)
	if _, err := w.restore("", pack(t, "box/rootfs/f=1")); err != nil {
		t.Fatal(err)
	}
	dir, err := os.OpenRoot(filepath.Join(w.dirs.Containers(), "box/rootfs"))
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("d", 239)
	for range 20 {
		if err := dir.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := dir.OpenRoot(name)
		if err != nil {
			t.Fatal(err)
		}
		dir.Close()
		dir = next
	}
	dir.Close()
	c, err := w.store.Open("box", container.Shared, "backup")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	stats, err := Backup(context.Background(), BackupRequest{Container: c, Report: report.Discard}, &out)
	c.Close()
	if err != nil || stats.Unreadable != 1 || stats.Entries != 1+4096/240 {
		t.Errorf("%+v, %v", stats, err)
	}
	if _, err := w.restore("", out.Bytes()); err != nil {
		t.Error(err)
	}
}
