package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"proot-distro/internal/rootfs"
)

// entries of small test archives
func dir(name string, mode int64) tar.Header {
	return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}
}
func file(name, content string) tar.Header { return fileMode(name, content, 0o644) }
func fileMode(name, content string, mode int64) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content)), Uname: content}
}
func link(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}
}
func hard(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}
}
func special(name string, typ byte) tar.Header {
	return tar.Header{Typeflag: typ, Name: name, Mode: 0o666, Devmajor: 1, Devminor: 3}
}

var testTime = time.Unix(1_600_000_000, 0)

// pack makes an archive; a file's content travels in its Uname.
func pack(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, hdr := range entries {
		content := hdr.Uname
		hdr.Uname = ""
		if hdr.ModTime.IsZero() {
			hdr.ModTime = testTime
		}
		check(t, w.WriteHeader(&hdr))
		if hdr.Size > 0 {
			_, err := io.WriteString(w, content)
			check(t, err)
		}
	}
	check(t, w.Close())
	return buf.Bytes()
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newRoot gives an empty tree, with a canary beside it that is checked at the end.
func newRoot(t testing.TB) (*rootfs.FS, string) {
	t.Helper()
	top := t.TempDir()
	host := filepath.Join(top, "root")
	check(t, os.Mkdir(host, 0o755))
	check(t, os.Mkdir(filepath.Join(top, "outside"), 0o755))
	check(t, os.WriteFile(filepath.Join(top, "outside/canary"), []byte("alive"), 0o644))
	before := list(t, top, "root")
	root, err := rootfs.Open(host, rootfs.GuestLinks)
	check(t, err)
	t.Cleanup(func() {
		check(t, root.Close())
		if diff := cmp.Diff(before, list(t, top, "root")); diff != "" {
			t.Errorf("outside of the tree: %s", diff)
		}
		// Directories that their owner may not enter stop the clean-up.
		filepath.WalkDir(host, func(path string, e fs.DirEntry, err error) error {
			if e != nil && e.IsDir() {
				os.Chmod(path, 0o700)
			}
			return nil
		})
	})
	return root, host
}

// list describes a tree, except for one entry at its top.
func list(t testing.TB, top, except string) []string {
	t.Helper()
	var lines []string
	var walk func(dir, rel string)
	walk = func(dir, rel string) {
		entries, err := os.ReadDir(dir)
		check(t, err)
		for _, e := range entries {
			path, name := filepath.Join(dir, e.Name()), rel+e.Name()
			if name == except {
				continue
			}
			info, err := os.Lstat(path)
			check(t, err)
			switch line := fmt.Sprintf("%s %v", name, info.Mode()); {
			case info.IsDir():
				lines = append(lines, line)
				walk(path, name+"/")
			case info.Mode().IsRegular():
				data, err := os.ReadFile(path)
				check(t, err)
				lines = append(lines, line+" "+string(data))
			case info.Mode().Type() == fs.ModeSymlink:
				target, err := os.Readlink(path)
				check(t, err)
				lines = append(lines, name+" -> "+target)
			default:
				lines = append(lines, line)
			}
		}
	}
	walk(top, "")
	return lines
}

func apply(t testing.TB, root *rootfs.FS, o Options, archive []byte) (Stats, error) {
	t.Helper()
	return Apply(context.Background(), root, bytes.NewReader(archive), o)
}

// asUser runs the calling test once more as an ordinary user when the tests run as
// root, whom permissions do not stop, and reports whether the caller is that user.
func asUser(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return true
	}
	self, err := os.Open("/proc/self/exe")
	check(t, err)
	defer self.Close()
	// By descriptor, since the user may not enter the directory of the test binary.
	cmd := exec.Command("/proc/self/fd/3", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.ExtraFiles = []*os.File{self}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("as an ordinary user: %v\n%s", err, out)
	}
	return false
}
