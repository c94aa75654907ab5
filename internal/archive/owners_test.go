package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"proot-distro/internal/compression"
	"proot-distro/internal/container"
	"proot-distro/internal/report"
)

// A container whose files have owners comes back as one, or is refused, or becomes root's.
func TestOwners(t *testing.T) {
	w := newWorld(t)
	c, err := w.store.Create("box", "test")
	check(t, err)
	check(t, c.SetAllIDs(true))
	check(t, os.WriteFile(filepath.Join(c.RootfsPath(), "file"), nil, 0o644))
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = 12, 34
		check(t, os.Chown(filepath.Join(c.RootfsPath(), "file"), uid, gid))
	}
	check(t, c.Commit())
	var backup bytes.Buffer
	_, err = Backup(context.Background(), BackupRequest{Container: c, Format: compression.Gzip, Report: report.Discard}, &backup)
	check(t, err)
	check(t, c.Close())
	if !HasOwners(bytes.NewReader(backup.Bytes())) {
		t.Error("the backup does not tell")
	}
	for _, tt := range []struct {
		name           string
		owners         Owners
		allIDs, marked bool
		err            error
	}{
		{"as-archived", AsArchived, true, true, nil},
		{"refused", AsArchived, false, false, ErrOwners},
		{"kept", KeepOwners, true, true, nil},
		{"roots", RootOwns, true, false, nil},
		{"mine", RootOwns, false, false, nil},
	} {
		_, err := Restore(context.Background(), RestoreRequest{
			Source: bytes.NewReader(backup.Bytes()), Name: tt.name, Containers: w.dirs.Containers(), Store: w.store,
			Report: report.Discard, Owners: tt.owners, AllIDs: tt.allIDs,
		})
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.err)
		}
		if err != nil {
			continue
		}
		restored, err := w.store.Open(tt.name, container.Shared, "test")
		check(t, err)
		tree, err := restored.Rootfs()
		check(t, err)
		info, err := tree.Lstat("file")
		check(t, err)
		wantUID, wantGID := uid, gid
		if !tt.marked {
			wantUID, wantGID = os.Getuid(), os.Getgid()
		}
		if restored.AllIDs() != tt.marked || info.UID != wantUID || info.GID != wantGID {
			t.Errorf("%s: has owners: %v, and the file's is %d:%d", tt.name, restored.AllIDs(), info.UID, info.GID)
		}
		check(t, errors.Join(tree.Close(), restored.Close()))
	}
	w.untouched(t)
}

func TestHasOwners(t *testing.T) {
	for name, entries := range map[string][]string{
		"ordinary":   {"box/manifest.json={}", "box/rootfs/", "box/rootfs/f=1"},
		"no backup":  {"etc/", "etc/passwd=x"},
		"empty":      {},
		"far behind": {"./", "./", "./", "./", "./", "./", "./", "./", "./", "./", "./", "box/rootfs/"},
	} {
		if HasOwners(bytes.NewReader(pack(t, entries...))) {
			t.Errorf("%s: has owners", name)
		}
	}
	if HasOwners(bytes.NewReader([]byte("\x1f\x8bno gzip"))) {
		t.Error("garbage has owners")
	}
	var marked bytes.Buffer
	w := tar.NewWriter(&marked)
	check(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "./box/rootfs/", PAXRecords: map[string]string{usernsKey: usernsFull}}))
	check(t, w.Close())
	if !HasOwners(&marked) {
		t.Error("the record of the first entry is not seen")
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
