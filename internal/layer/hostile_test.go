package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Hostile archives; newRoot checks that nothing outside is touched. An empty error
// means that the archive is applied, harmlessly.
func TestHostile(t *testing.T) {
	long := strings.Repeat("n", 300)
	for name, tc := range map[string]struct {
		entries []tar.Header
		err     string
		is      error
	}{
		"parent":           {entries: []tar.Header{file("../outside/x", "1")}, err: `apply entry "../outside/x": the name contains ".."`},
		"parent inside":    {entries: []tar.Header{file("a/../../outside/x", "1")}, err: `the name contains ".."`},
		"absolute":         {entries: []tar.Header{file("/outside/canary", "1")}},
		"whiteout above":   {entries: []tar.Header{file("../outside/.wh.canary", "")}, err: `the name contains ".."`},
		"whiteout of dots": {entries: []tar.Header{file("..", ""), file(".wh...", "")}, err: `the name contains ".."`},
		"link, then file": {entries: []tar.Header{link("l", "../outside"), file("l/canary", "1"), link("m", "/../../outside/canary"),
			file("m", "2")}},
		"link, then directory":    {entries: []tar.Header{link("l", "../outside"), dir("l", 0o700)}},
		"link in the middle":      {entries: []tar.Header{link("a/b", "../../outside"), file("a/b/c/d", "1"), dir("a/b/e", 0o755)}},
		"link, then whiteout":     {entries: []tar.Header{link("l", "../outside"), file("l/.wh.canary", ""), file("l/.wh..wh..opq", ""), file(".wh.l", "")}},
		"link chain":              {entries: []tar.Header{link("a", ".."), link("a/b", ".."), link("a/b/c", "../outside"), file("c/canary", "1")}},
		"link loop":               {entries: []tar.Header{link("a", "b"), link("b", "a"), file("a/x", "1")}, is: unix.ELOOP},
		"hard link outside":       {entries: []tar.Header{hard("x", "../outside/canary")}, err: `apply entry "x": hard link to "../outside/canary": the name contains ".."`},
		"hard link absolute":      {entries: []tar.Header{hard("x", "/outside/canary")}, is: fs.ErrNotExist},
		"hard link through link":  {entries: []tar.Header{link("l", "../outside"), hard("x", "l/canary")}, is: fs.ErrNotExist},
		"hard link to link":       {entries: []tar.Header{link("l", "../outside/canary"), hard("x", "l"), file("x", "new")}},
		"hard link to nothing":    {entries: []tar.Header{hard("x", "none")}, err: `hard link to "none", which does not exist`},
		"hard link to directory":  {entries: []tar.Header{dir("d", 0o755), hard("x", "d")}, err: `neither a file nor a symbolic link`},
		"hard link to root":       {entries: []tar.Header{hard("x", "/")}, err: `the root cannot be linked`},
		"hard link over ancestor": {entries: []tar.Header{file("d/f", "1"), hard("d", "d/f")}, is: fs.ErrNotExist},
		"root as a file":          {entries: []tar.Header{file(".", "1"), link("/.", "/etc"), hard("//.", "x"), dir("/", 0)}},
		"root whiteout":           {entries: []tar.Header{file("f", "1"), file(".wh..", "")}},
		"file as a directory":     {entries: []tar.Header{file("f", "1"), file("f/x", "2")}, is: unix.ENOTDIR},
		"long name":               {entries: []tar.Header{file("d/"+long, "1")}, is: unix.ENAMETOOLONG},
		"long path":               {entries: []tar.Header{file(strings.Repeat("d/", 3000)+"f", "1")}, is: unix.ENAMETOOLONG},
		"deep path":               {entries: []tar.Header{file(strings.Repeat("d/", 1500)+"f", "1"), file(".wh.d", "")}},
		"long link target":        {entries: []tar.Header{link("l", strings.Repeat("x", 5000))}, is: unix.ENAMETOOLONG},
		"device, then file":       {entries: []tar.Header{special("dev/null", tar.TypeChar), file("dev/null", "1")}},
	} {
		t.Run(name, func(t *testing.T) {
			root, _ := newRoot(t)
			_, err := apply(t, root, Options{Whiteouts: true}, pack(t, tc.entries...))
			switch {
			case tc.err == "" && tc.is == nil && err != nil:
				t.Errorf("got %v", err)
			case tc.is != nil && !errors.Is(err, tc.is), tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)):
				t.Errorf("got %v, want %v%v", err, tc.err, tc.is)
			case err != nil && !strings.HasPrefix(err.Error(), "apply entry "):
				t.Errorf("%v does not name the entry", err)
			case err != nil && len(err.Error()) > 9000:
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

// Files that stand in the place of what would block or leak.
func TestOverExisting(t *testing.T) {
	root, host := newRoot(t)
	check(t, unix.Mkfifo(filepath.Join(host, "fifo"), 0o644))
	check(t, os.Symlink(filepath.Join(filepath.Dir(host), "outside/canary"), filepath.Join(host, "l")))
	_, err := apply(t, root, Options{}, pack(t, file("fifo", "1"), file("l", "2")))
	check(t, err)
	if data, err := root.ReadFile("fifo", 10); err != nil || string(data) != "1" {
		t.Errorf("%q, %v", data, err)
	}
	_, err = apply(t, root, Options{}, pack(t, special("p", tar.TypeFifo), hard("h", "fifo")))
	check(t, err)
}

func TestDamagedStreams(t *testing.T) {
	whole := pack(t, file("a", "1"), file("b", strings.Repeat("x", 3000)), dir("d", 0o755))
	big := fileMode("a", "", 0o644)
	big.Size = 1 << 50
	var bogus bytes.Buffer
	check(t, tar.NewWriter(&bogus).WriteHeader(&big))
	for name, tc := range map[string]struct {
		data []byte
		want string
	}{
		"empty":              {nil, ""},
		"in a header":        {whole[:1024+300], "read tar: the archive is cut short"},
		"less than a header": {whole[:300], "read tar: damaged, or not a tar archive"},
		"in a file":          {whole[:1024+512+1000], `read entry "b": the archive is cut short`},
		"bogus size":         {bogus.Bytes(), `read entry "a": the archive is cut short`},
		"not tar":            {bytes.Repeat([]byte("nonsense"), 200), "read tar: damaged, or not a tar archive"},
		"garbage after":      {append(bytes.Clone(whole), bytes.Repeat([]byte{0xff}, 5000)...), ""},
		"binary garbage":     {bytes.Repeat([]byte{0xff}, 2000), "read tar: damaged, or not a tar archive"},
		"no end of archive":  {whole[:len(whole)-1024], ""},
	} {
		root, _ := newRoot(t)
		_, err := apply(t, root, Options{}, tc.data)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
		var pe *fs.PathError
		if errors.As(err, &pe) {
			t.Errorf("%s: %v looks like an error of the tree", name, err)
		}
	}
}

// Headers that make a reader allocate or work without end.
func TestBombs(t *testing.T) {
	pax := func(size int64) []byte {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		check(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "x", Size: size, Format: tar.FormatUSTAR}))
		b := buf.Bytes()
		b[156] = tar.TypeXHeader
		checksum(b)
		return b
	}
	for name, stream := range map[string]io.Reader{
		"PAX header": io.MultiReader(bytes.NewReader(pax(4<<30)), io.LimitReader(zeroReader{}, 4<<30)),
		"GNU sparse": bytes.NewReader(sparseBomb(t)),
	} {
		root, _ := newRoot(t)
		if _, err := Apply(t.Context(), root, stream, Options{}); err == nil {
			t.Errorf("%s: applied", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

// sparseBomb is a GNU sparse file (old format) of 4 EiB, all of it a hole.
func sparseBomb(t testing.TB) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	check(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "bomb", Mode: 0o644, Format: tar.FormatGNU}))
	b := buf.Bytes()
	b[156] = tar.TypeGNUSparse
	huge := []byte{0x80, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0} // in base 256
	copy(b[483:495], huge)                                   // the size
	copy(b[386:398], huge)                                   // the only data: where
	copy(b[398:410], "00000000000\x00")                      // and how many
	checksum(b)
	return append(b, make([]byte, 1024)...)
}

func checksum(header []byte) {
	copy(header[148:156], "        ")
	sum := 0
	for _, c := range header[:512] {
		sum += int(c)
	}
	copy(header[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

func FuzzApply(f *testing.F) {
	f.Add(pack(f, dir("d", 0o755), file("d/f", "1"), link("d/l", "../.."), hard("h", "d/f"), file("d/.wh.f", "")))
	f.Add(pack(f, link("l", "../outside"), file("l/canary", "1"), hard("x", "l/canary"), file(".wh..wh..opq", "")))
	f.Add(pack(f, dir("d", 0), file("d/x", "1"), link("x", "/"), file("x/x/x/y", "2"), special("n", tar.TypeChar)))
	f.Add(sparseBomb(f))
	long := file(strings.Repeat("long/", 100)+"f", "1")
	long.Format = tar.FormatGNU
	f.Add(pack(f, long))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 64<<10 {
			return
		}
		root, _ := newRoot(t)
		apply(t, root, Options{Whiteouts: len(data)%2 == 0, Strip: len(data) % 3}, data)
	})
}

func FuzzDetectStrip(f *testing.F) {
	f.Add("bin\netc\nusr/bin")
	f.Add("a/b/../bin\n//\n./.\n")
	f.Fuzz(func(t *testing.T, names string) {
		strip, err := DetectStrip(strings.Split(names, "\n"))
		if strip < 0 || strip > maxStrip || err != nil && strip != 0 {
			t.Errorf("%d, %v", strip, err)
		}
	})
}
