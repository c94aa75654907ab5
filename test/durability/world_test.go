// Package durability kills the real program at random moments, and runs it on full disks: whatever happens, the
// old state or the new one is found, never a third.
//
// PD_KILLS is how often each command is killed.
package durability

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"proot-distro/test/fixtures"
)

// program is the binary under test.
var program string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		fixtures.ObeySignals()
		dir, err := os.MkdirTemp("", "pd-durability-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if err := os.Chmod(dir, 0o755); err != nil { // see newUserWorld
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		program = filepath.Join(dir, "proot-distro")
		if out, err := exec.Command("go", "build", "-o", program, "proot-distro/cmd/proot-distro").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the program: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// world is a HOME with an image beside it.
type world struct {
	t    *testing.T
	home string
	work string   // the working directory
	via  []string // a program that runs ours, and its arguments; usually none
}

func newWorld(t *testing.T, home string) *world {
	t.Helper()
	return &world{t: t, home: home, work: t.TempDir()}
}

// newUserWorld is that of an ordinary user who may map user IDs, also when it is root who tests.
func newUserWorld(t *testing.T) *world {
	t.Helper()
	if os.Getuid() != 0 {
		return newWorld(t, quickDir(t))
	}
	dir := quickDir(t)
	w := &world{t: t, home: filepath.Join(dir, "home"), work: filepath.Join(dir, "work")}
	var err error
	w.via, err = fixtures.AsUser(dir)
	err = errors.Join(err, os.Chmod(dir, 0o755), os.Mkdir(w.home, 0o755), os.Mkdir(w.work, 0o755),
		os.Chown(w.home, fixtures.OrdinaryUser, fixtures.OrdinaryUser))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// quickDir is in memory where that is possible, and goes away.
func quickDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(fixtures.WorkDir(), "pd-durability-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (w *world) state(name string) string {
	return filepath.Join(w.home, ".local/share/proot-distro", name)
}
func (w *world) rootfs(name string) string { return w.state("containers/" + name + "/rootfs") }

func (w *world) command(ctx context.Context, args ...string) *exec.Cmd {
	line := slices.Concat(w.via, []string{program}, args)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Dir = w.work
	cmd.Env = append(os.Environ(), "HOME="+w.home, "XDG_DATA_HOME=", "XDG_CACHE_HOME=")
	return cmd
}

// run runs the program and returns what it says; err is what it ended with.
func (w *world) run(args ...string) (out string, err error) {
	data, err := w.command(context.Background(), args...).CombinedOutput()
	return string(data), err
}

// pd runs the program, which must succeed.
func (w *world) pd(args ...string) string {
	w.t.Helper()
	out, err := w.run(args...)
	if err != nil {
		w.t.Fatalf("pd %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// timed runs the program, which must succeed, and returns how long it took.
func (w *world) timed(args ...string) time.Duration {
	w.t.Helper()
	begin := time.Now()
	w.pd(args...)
	return time.Since(begin)
}

// kill runs the program and kills it after a while, which is as long as it takes at most. When it was faster it is
// finished, and took its new time: a machine is not equally quick at all times.
func (w *world) kill(takes *time.Duration, args ...string) (finished bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), rand.N(*takes))
	defer cancel()
	begin := time.Now()
	out, err := w.command(ctx, args...).CombinedOutput() // CommandContext kills with SIGKILL
	if exit := new(exec.ExitError); err != nil && ctx.Err() == nil && errors.As(err, &exit) {
		w.t.Fatalf("pd %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	if err == nil {
		*takes = time.Since(begin)
	}
	return err == nil
}

func (w *world) containers() []string {
	w.t.Helper()
	var listed []string
	for line := range strings.Lines(w.pd("list", "-q")) {
		listed = append(listed, strings.TrimSpace(line))
	}
	return listed
}

// snapshot describes every container.
func (w *world) snapshot() map[string]string {
	w.t.Helper()
	all := map[string]string{}
	for _, name := range w.containers() {
		all[name] = fingerprint(w.t, w.rootfs(name))
	}
	return all
}

// noStaging checks that nothing half-done is left.
func (w *world) noStaging() {
	w.t.Helper()
	entries, err := os.ReadDir(w.state("staging"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Fatal(err)
	}
	if len(entries) > 0 {
		w.t.Errorf("left in staging: %v", entries)
	}
}

// fingerprint stands for all of a tree: names, types, modes, owners, contents and links. Where a link leads below a
// rootfs of the host does not count.
func fingerprint(t *testing.T, root string) string {
	t.Helper()
	sum := sha256.New()
	entries := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		entries++
		owner := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(sum, "%s %s %d:%d ", strings.TrimPrefix(path, root), info.Mode(), owner.Uid, owner.Gid)
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(sum, "%x", sha256.Sum256(data))
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			if _, below, ok := strings.Cut(target, "/rootfs/"); ok {
				target = below
			}
			fmt.Fprint(sum, target)
		}
		fmt.Fprintln(sum)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d entries, %x", entries, sum.Sum(nil)[:8])
}

// writeImage makes image.tar, as docker save does, of two layers with so many files of that size.
func (w *world) writeImage(files, size int) {
	w.t.Helper()
	image := v1.Image(empty.Image)
	random := rand.NewChaCha8([32]byte{})
	for layer := range 2 {
		var b bytes.Buffer
		tw := tar.NewWriter(&b)
		add := func(h *tar.Header, data []byte) {
			h.ModTime, h.Size = time.Unix(1_700_000_000, 0), int64(len(data))
			if err := tw.WriteHeader(h); err != nil {
				w.t.Fatal(err)
			}
			if _, err := tw.Write(data); err != nil {
				w.t.Fatal(err)
			}
		}
		add(&tar.Header{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o755}, nil)
		add(&tar.Header{Typeflag: tar.TypeReg, Name: "etc/release", Mode: 0o644}, fmt.Append(nil, layer))
		for i := range files {
			data := make([]byte, size)
			_, _ = random.Read(data) // never fails
			dir := fmt.Sprintf("usr/%d/%d/", layer, i/50)
			if i%50 == 0 {
				add(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}, nil)
			}
			add(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint(dir, i), Mode: 0o644, Uid: i % 3, Gid: i % 3}, data)
			add(&tar.Header{Typeflag: tar.TypeSymlink, Name: fmt.Sprint(dir, i, ".link"), Linkname: fmt.Sprint(i)}, nil)
		}
		if err := tw.Close(); err != nil {
			w.t.Fatal(err)
		}
		var err error
		if image, err = mutate.AppendLayers(image, static.NewLayer(b.Bytes(), types.DockerUncompressedLayer)); err != nil {
			w.t.Fatal(err)
		}
	}
	image, err := mutate.ConfigFile(image, withPlatform(w.t, image))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := tarball.WriteToFile(filepath.Join(w.work, "image.tar"), name.MustParseReference("127.0.0.1:9/example/box:1"), image); err != nil {
		w.t.Fatal(err)
	}
}

// withPlatform gives the image's config for the machine's CPU.
func withPlatform(t *testing.T, image v1.Image) *v1.ConfigFile {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", goarch
	return config
}

// remove removes containers, those that are there.
func (w *world) remove(names ...string) {
	w.t.Helper()
	for _, name := range w.containers() {
		if slices.Contains(names, name) {
			w.pd("remove", "-q", name)
		}
	}
}
