package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"math"
	"os"
	"strings"
	"testing"

	"proot-distro/internal/rootfs"
)

// Owners are those of the archive, and come back out of the tree; only root may give away what it has.
func TestOwners(t *testing.T) {
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = 12, 34
	}
	var stream bytes.Buffer
	w := tar.NewWriter(&stream)
	for _, hdr := range []tar.Header{
		{Typeflag: tar.TypeDir, Name: "dir/", Mode: 0o2755},
		{Typeflag: tar.TypeReg, Name: "dir/program", Mode: 0o6755, Size: 3},
		{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "nowhere"},
	} {
		hdr.Uid, hdr.Gid = uid, gid
		check(t, w.WriteHeader(&hdr))
		_, err := w.Write(make([]byte, hdr.Size))
		check(t, err)
	}
	check(t, w.Close())
	root, err := rootfs.Open(t.TempDir(), rootfs.GuestLinks)
	check(t, err)
	defer root.Close()
	_, err = Apply(context.Background(), root, &stream, Options{Owners: true})
	check(t, err)
	for name, mode := range map[string]string{"dir": "dgrwxr-xr-x", "dir/program": "ugrwxr-xr-x", "link": "Lrwxrwxrwx"} {
		info, err := root.Lstat(name)
		check(t, err)
		if info.UID != uid || info.GID != gid || info.Mode.String() != mode {
			t.Errorf("%s: owner %d:%d, mode %v; want %d:%d, %s", name, info.UID, info.GID, info.Mode, uid, gid, mode)
		}
	}

	var archive bytes.Buffer
	w = tar.NewWriter(&archive)
	_, err = Archive(context.Background(), root, w, ArchiveOptions{Prefix: "box", Owners: true, Records: map[string]string{"TEST.key": "value"}})
	check(t, err)
	check(t, w.Close())
	r := tar.NewReader(&archive)
	first, err := r.Next()
	check(t, err)
	if first.PAXRecords["TEST.key"] != "value" {
		t.Errorf("records of the first entry: %v", first.PAXRecords)
	}
	for hdr, err := r.Next(); err != io.EOF; hdr, err = r.Next() {
		check(t, err)
		if hdr.Uid != uid || hdr.Gid != gid {
			t.Errorf("archived %s: owner %d:%d, want %d:%d", hdr.Name, hdr.Uid, hdr.Gid, uid, gid)
		}
	}
}

func TestImpossibleOwner(t *testing.T) {
	for _, id := range []int64{-1, math.MaxUint32, math.MaxUint32 + 1} {
		if int64(int(id)) != id {
			continue // no header can hold it
		}
		for _, kind := range []byte{tar.TypeReg, tar.TypeDir, tar.TypeSymlink} {
			root, err := rootfs.Open(t.TempDir(), rootfs.GuestLinks)
			check(t, err)
			defer root.Close()
			var stream bytes.Buffer
			w := tar.NewWriter(&stream)
			check(t, w.WriteHeader(&tar.Header{Typeflag: kind, Name: "entry", Linkname: "x", Mode: 0o755, Uid: int(id), Format: tar.FormatGNU}))
			check(t, w.Close())
			_, err = Apply(context.Background(), root, &stream, Options{Owners: true})
			if err == nil || !strings.Contains(err.Error(), "cannot be the owner") {
				t.Errorf("owner %d of a %c: error %v", id, kind, err)
			}
		}
	}
}
