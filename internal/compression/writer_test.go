package compression

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mixed is data that compresses to about half, longer than any buffer on the way.
func mixed(size int) []byte {
	data := make([]byte, size)
	source := rand.NewChaCha8([32]byte{})
	for at := 0; at < size; at += 128 {
		source.Read(data[at:min(at+64, size)])
	}
	return data
}

func withoutPrograms(t *testing.T) { t.Setenv("PATH", t.TempDir()) }

func compress(t *testing.T, f Format, data []byte) []byte {
	t.Helper()
	var packed bytes.Buffer
	w, err := NewWriter(t.Context(), &packed, f)
	if err != nil {
		t.Fatal(err)
	}
	for rest := data; len(rest) > 0; {
		n := min(len(rest), 100_000)
		if _, err := w.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

// What we write, we and the format's own program read; with programs and without.
func TestWriter(t *testing.T) {
	formats := map[Format][]string{
		None: {"cat"}, Gzip: {"gzip", "-dc"}, Bzip2: {"bzip2", "-dc"}, XZ: {"xz", "-dc"},
		LZMA: {"xz", "--format=lzma", "-dc"}, Zstd: {"zstd", "-dc"},
	}
	for name, data := range map[string][]byte{"nothing": {}, "little": []byte("hello"), "much": mixed(3 << 19)} {
		for f, argv := range formats {
			for _, alone := range []bool{false, true} {
				t.Run(name+" "+f.String()+map[bool]string{true: " alone", false: ""}[alone], func(t *testing.T) {
					tool, err := exec.LookPath(argv[0])
					if err != nil {
						t.Fatal(err)
					}
					if alone {
						withoutPrograms(t)
					}
					packed := compress(t, f, data)
					z, err := NewReader(bytes.NewReader(packed))
					if err != nil {
						t.Fatal(err)
					}
					defer z.Close()
					if got, err := io.ReadAll(z); err != nil || z.Format() != f || !bytes.Equal(got, data) {
						t.Errorf("ours: %v, %d bytes of %v", err, len(got), z.Format())
					}
					cmd := exec.Command(tool, argv[1:]...)
					cmd.Stdin = bytes.NewReader(packed)
					if got, err := cmd.Output(); err != nil || !bytes.Equal(got, data) {
						t.Errorf("%s: %v, %d bytes", tool, err, len(got))
					}
				})
			}
		}
	}
}

// Python's tarfile reads the first stream only, and knows lzma by a dictionary of 8 MiB.
func TestWriterForSimpleReaders(t *testing.T) {
	data := mixed(3 << 19)
	script := `import sys,zlib,bz2,lzma
z={"gzip":lambda:zlib.decompressobj(31),"bzip2":bz2.BZ2Decompressor,"xz":lzma.LZMADecompressor,"lzma":lzma.LZMADecompressor}[sys.argv[1]]()
sys.stdout.buffer.write(z.decompress(sys.stdin.buffer.read()))`
	// Its own path: a wrapper found in PATH may need more of it.
	executable, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		t.Fatal(err)
	}
	python := strings.TrimSpace(string(executable))
	env := os.Environ()
	for _, alone := range []bool{false, true} {
		if alone {
			withoutPrograms(t)
		}
		for _, f := range []Format{Gzip, Bzip2, XZ, LZMA} {
			packed := compress(t, f, data)
			cmd := exec.Command(python, "-c", script, f.String())
			cmd.Env = env
			cmd.Stdin = bytes.NewReader(packed)
			if got, err := cmd.Output(); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%v (alone %v): %v, %d of %d bytes", f, alone, err, len(got), len(data))
			}
			if f == LZMA && !bytes.HasPrefix(packed, []byte{0x5d, 0, 0, 0x80}) {
				t.Errorf("lzma (alone %v) begins with % x", alone, packed[:5])
			}
		}
	}
}

type fullDisk struct{ room int }

var errFull = errors.New("disk full")

func (d *fullDisk) Write(p []byte) (int, error) {
	if d.room -= len(p); d.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestWriterFails(t *testing.T) {
	data := mixed(3 << 19)
	for _, alone := range []bool{false, true} {
		if alone {
			withoutPrograms(t)
		}
		for _, f := range []Format{None, Gzip, Bzip2, XZ, LZMA, Zstd} {
			w, err := NewWriter(t.Context(), &fullDisk{100}, f)
			if err != nil && !errors.Is(err, errFull) {
				t.Fatal(err)
			}
			if err == nil {
				_, err = io.Copy(w, bytes.NewReader(data))
				if closeErr := w.Close(); err == nil {
					err = closeErr
				}
			}
			if !errors.Is(err, errFull) {
				t.Errorf("%v (alone %v): %v", f, alone, err)
			}
		}
	}
}

// A program writes a file itself. Why it cannot is known all the same.
func TestWriterFailsOnFile(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	r, closed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer closed.Close()
	r.Close()
	data := mixed(3 << 19)
	for _, f := range []Format{Gzip, Bzip2, XZ, LZMA, Zstd} {
		for out, want := range map[*os.File]error{full: syscall.ENOSPC, closed: syscall.EPIPE} {
			w, err := NewWriter(t.Context(), out, f)
			if err == nil {
				_, err = io.Copy(w, bytes.NewReader(data))
				if closeErr := w.Close(); err == nil {
					err = closeErr
				}
			}
			if !errors.Is(err, want) {
				t.Errorf("%v: %v, not %v", f, err, want)
			}
		}
	}
}

// The end of the context ends a program that is far behind.
func TestWriterStops(t *testing.T) {
	dir := t.TempDir()
	slow := "#!/bin/sh\nexec sleep 60\n"
	if err := os.WriteFile(filepath.Join(dir, "xz"), []byte(slow), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	ctx, cancel := context.WithCancel(context.Background())
	w, err := NewWriter(ctx, io.Discard, XZ)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, cancel)
	start := time.Now()
	_, err = io.Copy(w, bytes.NewReader(make([]byte, 1<<20)))
	if closeErr := w.Close(); err == nil {
		err = closeErr
	}
	if err == nil || time.Since(start) > 10*time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
}

func TestFindProgram(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	for _, step := range []struct{ busybox, link, want string }{
		{"busybox", "xz", ""},
		{"xz-real", "xz", "xz"},
	} {
		link := filepath.Join(dir, step.link)
		os.Remove(link)
		if err := os.WriteFile(filepath.Join(dir, step.busybox), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(step.busybox, link); err != nil {
			t.Fatal(err)
		}
		want := ""
		if step.want != "" {
			want = filepath.Join(dir, step.want)
		}
		if got, _ := findProgram(XZ); got != want {
			t.Errorf("with xz a link to %s: %q", step.busybox, got)
		}
	}
	if _, err := NewWriter(t.Context(), io.Discard, Gzip); err != nil {
		t.Error(err)
	}
}
