package layer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"proot-distro/internal/rootfs"
)

// archiveTree is Archive of a directory, with Stream.
func archiveTree(t *testing.T, dir string) []byte {
	t.Helper()
	root, err := rootfs.Open(dir, rootfs.GuestLinks)
	check(t, err)
	defer root.Close()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	_, err = Archive(t.Context(), root, w, ArchiveOptions{Prefix: "box/rootfs", Stream: &out})
	check(t, err)
	check(t, w.Close())
	return out.Bytes()
}

// sparseTree makes files with holes in all places, and gives their content by name.
func sparseTree(t *testing.T) (dir string, contents map[string][]byte) {
	t.Helper()
	dir, contents = t.TempDir(), map[string][]byte{}
	const mb = 1 << 20
	long := strings.Repeat("long ", 30) + "=\n12 GNU_sparse.realsize=1"
	for name, data := range map[string][]extent{
		"all a hole": nil, "start": {{0, 5000}}, "end": {{3*mb - 777, 777}}, "parts": {{mb, 4096}, {2 * mb, 1}, {3*mb - 1, 1}},
		"no holes": {{0, 3 * mb}}, "small holes": {{0, 3*mb - 9000}, {3*mb - 1, 1}}, long: {{mb, 10}},
	} {
		content := make([]byte, 3*mb)
		f, err := os.Create(filepath.Join(dir, name))
		check(t, err)
		check(t, f.Truncate(3*mb))
		for _, e := range data {
			part := content[e.offset : e.offset+e.size]
			copy(part, bytes.Repeat([]byte("data"), len(part)/4+1))
			_, err := f.WriteAt(part, e.offset)
			check(t, err)
		}
		check(t, f.Close())
		contents[name] = content
	}
	check(t, os.Chmod(filepath.Join(dir, "start"), 0o710))
	check(t, os.Link(filepath.Join(dir, "start"), filepath.Join(dir, "started")))
	contents["started"] = contents["start"]
	return dir, contents
}

// Holes take no room in an archive, and whoever reads it finds the files as they were.
func TestArchiveSparse(t *testing.T) {
	dir, contents := sparseTree(t)
	archive := archiveTree(t, dir)
	if most := 2*3<<20 + 200<<10; len(archive) > most {
		t.Errorf("the archive takes %d bytes, more than %d", len(archive), most)
	}
	if !bytes.Equal(archive, archiveTree(t, dir)) {
		t.Error("two archives differ")
	}
	compare := func(t *testing.T, restored string) {
		for name, want := range contents {
			got, err := os.ReadFile(filepath.Join(restored, name))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%q: %d bytes, %v", name, len(got), err)
			}
		}
		var st unix.Stat_t
		check(t, unix.Stat(filepath.Join(restored, "started"), &st))
		if st.Nlink != 2 || st.Mode&0o7777 != 0o710 || st.Blocks > 1<<20/blockSize {
			t.Errorf("started: %d links, mode %o, %d blocks", st.Nlink, st.Mode, st.Blocks)
		}
	}
	t.Run("Apply", func(t *testing.T) {
		root, host := newRoot(t)
		_, err := apply(t, root, Options{Strip: 2}, archive)
		check(t, err)
		compare(t, host)
	})
	for name, program := range map[string][]string{
		"GNU tar": {"tar", "-xp", "--strip-components=2"},
		"bsdtar":  {"bsdtar", "-xp", "--strip-components=2"},
		"Python":  {"python3", "-c", pythonExtract},
	} {
		t.Run(name, func(t *testing.T) {
			out := t.TempDir()
			cmd := exec.Command(program[0], program[1:]...)
			cmd.Dir, cmd.Stdin = out, bytes.NewReader(archive)
			if said, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, said)
			}
			if name == "Python" {
				out = filepath.Join(out, "box/rootfs")
			}
			compare(t, out)
		})
	}
}

const pythonExtract = "import sys,tarfile; tarfile.open(fileobj=sys.stdin.buffer,mode='r|*').extractall()"

// A file that grows a hole, or shrinks, while it is read: what the header says is what follows.
func TestArchiveSparseThatShrinks(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	f, err := os.Create(name)
	check(t, err)
	defer f.Close()
	check(t, f.Truncate(8<<20))
	_, err = f.WriteAt([]byte("data"), 4<<20)
	check(t, err)
	root, err := rootfs.Open(dir, rootfs.GuestLinks)
	check(t, err)
	defer root.Close()
	out := &shrinking{file: f}
	w := tar.NewWriter(out)
	var warned []string
	_, err = Archive(t.Context(), root, w, ArchiveOptions{Prefix: "p", Stream: out, OnWarn: func(path, what string) {
		warned = append(warned, path+": "+what)
	}})
	check(t, err)
	check(t, w.Close())
	r := tar.NewReader(&out.Buffer)
	for range 2 {
		hdr, err := r.Next()
		check(t, err)
		n, err := io.Copy(io.Discard, r)
		if err != nil || n != hdr.Size || hdr.Name == "p/f" && n != 8<<20 {
			t.Errorf("%s: %d of %d bytes, %v", hdr.Name, n, hdr.Size, err)
		}
	}
	if fmt.Sprint(warned) != "[/f: it became shorter while it was read; the rest is zeros]" {
		t.Error(warned)
	}
}

// shrinking empties the file when the map of its data is written.
type shrinking struct {
	bytes.Buffer
	file *os.File
}

func (s *shrinking) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("GNU.sparse.major")) {
		_ = s.file.Truncate(0)
	}
	return s.Buffer.Write(p)
}

// A file is read from its beginning whatever was found of its holes; and what has grown is not read beyond the
// size that the archive tells.
func TestExtents(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	check(t, err)
	defer f.Close()
	for _, at := range []int64{0, 4 << 20, 8 << 20} {
		_, err = f.WriteAt([]byte("data"), at)
		check(t, err)
	}
	check(t, f.Truncate(12<<20))
	for _, tc := range []struct {
		size  int64
		most  int
		parts int
	}{{12 << 20, maxExtents, 3}, {12 << 20, 2, 0}, {6 << 20, maxExtents, 2}} {
		extents := extentsOf(f, tc.size, tc.most)
		if len(extents) != tc.parts {
			t.Errorf("%+v: %v", tc, extents)
		}
		for _, e := range extents {
			if e.size <= 0 || e.offset+e.size > tc.size {
				t.Errorf("%+v: extent %+v", tc, e)
			}
		}
		if at, err := f.Seek(0, io.SeekCurrent); err != nil || at != 0 {
			t.Errorf("%+v: the file is left at %d, %v", tc, at, err)
		}
	}
}

// However long the name is, and wherever in a block its record ends, readers find it and the size.
func TestSparseHeaders(t *testing.T) {
	for n := range 1200 {
		name := strings.Repeat("n/", 100) + strings.Repeat("x", n)
		data := mapOf(nil, 3<<20)
		header, err := sparseHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: 3 << 20, Mode: 0o600}, int64(len(data)))
		check(t, err)
		hdr, err := tar.NewReader(bytes.NewReader(append(header, data...))).Next()
		if err != nil || hdr.Name != name || hdr.Size != 3<<20 {
			t.Fatalf("a name of %d bytes: %v, %v", len(name), hdr, err)
		}
	}
}
