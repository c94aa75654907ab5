package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proot-distro/internal/engine/native"
	"proot-distro/internal/overlay"
	"proot-distro/internal/rootfs"
)

// mayMount reports whether this process may mount. If not, it runs the test in one that may.
func mayMount(t *testing.T) bool {
	t.Helper()
	if _, inside := native.Unshared(); inside {
		return true
	}
	argv := []string{os.Args[0], "-test.run=^" + t.Name() + "$"}
	status, err := native.Unshare(native.OwnID, argv)
	if errors.Is(err, native.ErrCgo) {
		status, err = native.Unshare(native.SingleID, argv)
	}
	if err != nil {
		t.Fatal("overlays are tested in a namespace: ", err)
	}
	if status != 0 {
		t.Errorf("status %d", status)
	}
	return false
}

// stacked is an overlay over one directory.
type stacked struct{ lower, upper, merged string }

func newStacked(t *testing.T) stacked {
	t.Helper()
	top := t.TempDir()
	s := stacked{filepath.Join(top, "lower"), filepath.Join(top, "upper"), filepath.Join(top, "merged")}
	for _, dir := range []string{s.lower, s.upper, s.merged, filepath.Join(top, "work")} {
		check(t, os.Mkdir(dir, 0o755))
	}
	return s
}

// mount mounts it until the end of the test.
func (s stacked) mount(t *testing.T) {
	t.Helper()
	var dirs []*rootfs.Dir
	for _, dir := range []string{s.lower, s.upper, filepath.Join(filepath.Dir(s.upper), "work")} {
		d, err := openTree(t, dir).OpenDir("/")
		check(t, err)
		defer d.Close()
		dirs = append(dirs, d)
	}
	check(t, overlay.Mount(overlay.Stack{Lower: dirs[:1], Upper: dirs[1], Work: dirs[2]}, s.merged))
	t.Cleanup(func() { check(t, overlay.Unmount(s.merged)) })
}

func openTree(t *testing.T, dir string) *rootfs.FS {
	t.Helper()
	root, err := rootfs.Open(dir, rootfs.GuestLinks)
	check(t, err)
	t.Cleanup(func() { check(t, root.Close()) })
	return root
}

func (s stacked) diff(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	_, err := DiffUpper(context.Background(), openTree(t, s.upper), openTree(t, s.lower), &buf, DiffOptions{})
	check(t, err)
	return buf.Bytes()
}

func TestDiffUpper(t *testing.T) {
	if !mayMount(t) {
		return
	}
	others := map[string]string{ // what overlays do to trees
		"directory moved, with old content into another": "d/ dir 755|d/s/ dir 755|d/s/f file 644 x|.wh.n file 0",
		"hard links, one changed":                        "a file 644 y",
		"hard link, its directory moved":                 ".wh.d file 0|e/ dir 755|e/b file 644 x",
		"hard link taken away":                           ".wh.b file 0",
	}
	for _, test := range diffTests {
		t.Run(test.name, func(t *testing.T) {
			s := newStacked(t)
			script(t, s.lower, test.before)
			s.mount(t)
			script(t, s.merged, test.change)
			layer := s.diff(t)
			want := test.want
			if other, ok := others[test.name]; ok {
				want = other
			}
			got := entriesOf(t, layer)
			if diff := cmp.Diff(strings.FieldsFunc(want, func(r rune) bool { return r == '|' }), got, cmp.Comparer(slices.Equal[[]string])); diff != "" {
				t.Errorf("got %q\n%s", got, diff)
			}
		})
	}
}

// The layer, applied to a copy of the tree below, gives what the overlay shows.
func TestRoundTripUpper(t *testing.T) {
	if !mayMount(t) {
		return
	}
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := newStacked(t)
			m := &mutator{t: t, rand: rand.New(rand.NewPCG(seed, seed)), host: s.lower}
			for range 30 {
				m.step()
			}
			whole, _ := diffOf(t, openTree(t, s.lower), nil, DiffOptions{})
			s.mount(t)
			m.host = s.merged
			for range 3 + int(seed) {
				m.step()
			}
			layer := s.diff(t)
			copied, target := newRoot(t)
			for _, archive := range [][]byte{whole, layer} {
				apply(t, copied, Options{Whiteouts: true}, archive)
			}
			timed := dirsIn(t, layer)
			// An overlay does not tell all hard links by their inode numbers.
			linked := regexp.MustCompile(` as [a-f/]+`)
			apart := cmp.Transformer("apart", func(line string) string { return linked.ReplaceAllString(line, "") })
			if diff := cmp.Diff(describe(t, s.merged, timed), describe(t, target, timed), apart); diff != "" {
				t.Errorf("%s\nlayer: %q", diff, entriesOf(t, layer))
			}
		})
	}
}
