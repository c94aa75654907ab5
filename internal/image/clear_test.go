package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"proot-distro/internal/flock"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
)

// clear runs Clear and lists what it deleted.
func (req ClearRequest) run(t *testing.T, c *Cache) (freed int64, removed []string) {
	t.Helper()
	req.Removed = func(n string) { removed = append(removed, n) }
	freed, err := c.Clear(req)
	if err != nil {
		t.Fatal(err)
	}
	return freed, removed
}

func TestClearEverything(t *testing.T) {
	c, dirs := newCache(t)
	if freed, removed := (ClearRequest{}).run(t, c); freed != 0 || len(removed) != 0 {
		t.Errorf("a cache that is not there: %d, %q", freed, removed)
	}
	if _, err := os.Stat(dirs.Cache); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("made by clearing it: %v", err)
	}
	storeImage(t, c, "a", platform.X86_64, "base", strings.Repeat("x", 5000))
	victim := filepath.Join(t.TempDir(), "victim")
	closed := filepath.Join(dirs.Cache, "probes/closed")
	if err := errors.Join(
		os.MkdirAll(closed, 0o700),
		os.WriteFile(victim, []byte("keep me"), 0o600),
		os.WriteFile(filepath.Join(closed, "file"), make([]byte, 1000), 0o600),
		os.Symlink(filepath.Dir(victim), filepath.Join(dirs.Cache, "out")),
		os.Symlink(victim, filepath.Join(dirs.Layers(), "sha256_link")),
		unix.Mkfifo(filepath.Join(dirs.Cache, "fifo"), 0o600),
		os.Chmod(closed, 0),
		os.Chmod(filepath.Dir(closed), 0),
	); err != nil {
		t.Fatal(err)
	}
	freed, removed := ClearRequest{}.run(t, c)
	if again, _ := (ClearRequest{}).run(t, c); again != 0 {
		t.Errorf("%d bytes freed of an empty cache", again)
	}
	if freed < 6000 || freed > 10000 {
		t.Errorf("freed %d", freed)
	}
	for _, want := range []string{"oci_layers", "fifo", "probes/closed/file", "out"} {
		if !slices.Contains(removed, want) {
			t.Errorf("%s is not told: %q", want, removed)
		}
	}
	if slices.ContainsFunc(removed, func(n string) bool { return strings.Contains(n, "lock") }) {
		t.Errorf("told: %q", removed)
	}
	if left, err := os.ReadDir(dirs.Cache); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if data, err := os.ReadFile(victim); err != nil || string(data) != "keep me" {
		t.Errorf("the victim: %q, %v", data, err)
	}
	storeImage(t, c, "a", platform.X86_64, "again")
}

func TestClearIsRefusedWhileInUse(t *testing.T) {
	c, _ := newCache(t)
	c.Command = "install"
	storeImage(t, c, "a", platform.X86_64, "base")
	release, err := c.Lock(Shared)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Clear(ClearRequest{})
	busy := new(BusyError)
	if !errors.As(err, &busy) || busy.Holder != (flock.Holder{PID: os.Getpid(), Command: "install"}) {
		t.Errorf("%v", err)
	}
	if want := fmt.Sprintf("the image cache is in use by install (PID %d)", os.Getpid()); err.Error() != want {
		t.Errorf("it says: %v", err)
	}
	if !c.Has(descriptorOf("base")) {
		t.Error("a layer is gone")
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Clear(ClearRequest{Removed: func(string) {}}); err != nil {
		t.Error(err)
	}
}

// selection is a cache with an image, a container whose image was forgotten, a build and leftovers.
func selection(t *testing.T, index string) (c *Cache, used []*oci.Record, layers func() string) {
	t.Helper()
	c, dirs := newCache(t)
	for _, name := range []string{"a", "container"} {
		storeImage(t, c, name, platform.X86_64, "base", "of "+name)
	}
	forgotten, err := c.Lookup(mustRef(t, "container"), platform.X86_64)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(mustRef(t, "container"), platform.X86_64); err != nil {
		t.Fatal(err)
	}
	put(t, c, "orphan")
	put(t, c, "built")
	for name, data := range map[string]string{
		blobPath(dirs, descriptorOf("unknown")) + ".part": "half",
		blobPath(dirs, descriptorOf("of a")) + ".part":    "half",
		filepath.Join(dirs.Layers(), "notes"):             "a user's",
		filepath.Join(dirs.Cache, buildIndex):             index,
	} {
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c, []*oci.Record{forgotten}, func() string {
		var there []string
		for _, l := range []string{"base", "of a", "of container", "built", "orphan"} {
			if c.Has(descriptorOf(l)) {
				there = append(there, l)
			}
		}
		for _, n := range blobNames(t, dirs) {
			if n == "notes" || strings.HasSuffix(n, ".part") {
				there = append(there, strings.TrimPrefix(strings.TrimPrefix(n, filepath.Base(blobPath(dirs, descriptorOf("of a")))), filepath.Base(blobPath(dirs, descriptorOf("unknown")))))
			}
		}
		return strings.Join(there, ", ")
	}
}

func TestClearSelection(t *testing.T) {
	index := fmt.Sprintf(`{"version":1,"entries":{"x":{"layer_digest":%q},"y":{"layer_digest":%q},"z":{"layer_digest":"../x"}}}`,
		digest.FromString("built"), digest.FromString("base"))
	for _, tc := range []struct {
		req  ClearRequest
		want string
	}{
		{ClearRequest{Orphans: true}, "base, of a, of container, built, notes, .part"},
		{ClearRequest{Build: true}, "base, of a, of container, orphan, notes, .part, .part"},
		{ClearRequest{Build: true, Orphans: true}, "base, of a, of container, notes, .part"},
	} {
		c, used, layers := selection(t, index)
		tc.req.Used = used
		freed, removed := tc.req.run(t, c)
		if got := layers(); got != tc.want || freed == 0 || len(removed) == 0 {
			t.Errorf("%+v leaves %s; freed %d, removed %q", tc.req, got, freed, removed)
		}
		if again, _ := tc.req.run(t, c); again != 0 {
			t.Errorf("again: %d", again)
		}
		if _, err := c.Lookup(mustRef(t, "a"), platform.X86_64); err != nil {
			t.Error(err)
		}
	}
}

// An index that cannot be read never costs a blob.
func TestClearDamagedIndex(t *testing.T) {
	for _, req := range []ClearRequest{{Orphans: true}, {Build: true}} {
		c, used, layers := selection(t, "{torn")
		before := layers()
		req.Used, req.Removed = used, func(string) {}
		if _, err := c.Clear(req); err == nil || !strings.Contains(err.Error(), buildIndex) {
			t.Errorf("%+v: %v", req, err)
		}
		if after := layers(); after != before {
			t.Errorf("%+v leaves %s of %s", req, after, before)
		}
	}
}
