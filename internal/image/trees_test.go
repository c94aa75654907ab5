package image

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// keepTree commits a tree with a file of its name, and gives its chain ID.
func keepTree(t *testing.T, c *Cache, name string, info TreeInfo) digest.Digest {
	t.Helper()
	n, err := c.NewTree()
	if err != nil {
		t.Fatal(err)
	}
	chain := digest.FromString(name)
	info.Notes = json.RawMessage(`{}`)
	if err := errors.Join(n.Files.WriteFile("name", []byte(name), 0o644), n.Commit(chain, info), n.Close()); err != nil {
		t.Fatal(err)
	}
	return chain
}

// found lists what is found of some trees.
func (c *Cache) found(t *testing.T, chains ...digest.Digest) (found []string) {
	t.Helper()
	for _, chain := range chains {
		_, files, err := c.FindTree(chain)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		name, err := files.ReadFile("name", 100)
		if err := errors.Join(err, files.Close()); err != nil {
			t.Fatal(err)
		}
		found = append(found, string(name))
	}
	return found
}

func listTrees(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, treesDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestTrees(t *testing.T) {
	c, dirs := newCache(t)
	if got := c.found(t, digest.FromString("a"), "sha256:../../x", ""); got != nil {
		t.Errorf("found %q in nothing", got)
	}
	n, err := c.NewTree()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(n.Files.MkdirAll("d/e", 0o755), n.Files.Mkdir("closed", 0), n.Close()); err != nil {
		t.Fatal(err)
	}
	if left := listTrees(t, dirs.Cache); left != nil {
		t.Errorf("not committed, but left: %q", left)
	}
	a := keepTree(t, c, "a", TreeInfo{})
	keepTree(t, c, "a", TreeInfo{}) // by another process, meanwhile
	b := keepTree(t, c, "b", TreeInfo{Below: a, Size: 3})
	if got := c.found(t, a, b); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("found %q", got)
	}
	info, files, err := c.FindTree(b)
	if err != nil || info.Below != a || info.Size != 3 {
		t.Errorf("%+v, %v", info, err)
	}
	files.Close()
	// The tree below it was deleted, and it is made anew without one.
	keepTree(t, c, "b", TreeInfo{})
	if info, files, err = c.FindTree(b); err != nil || info.Below != "" {
		t.Errorf("%+v, %v", info, err)
	}
	files.Close()
	broken := filepath.Join(dirs.Cache, treesDir, a.Encoded(), treeInfo)
	if err := os.WriteFile(broken, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := c.found(t, a); got != nil {
		t.Error("a damaged tree was found")
	}
}

// A tree that may not be on the disk counts until the system stops; one that was synced, always.
func TestTreesOfAnotherBoot(t *testing.T) {
	c, dirs := newCache(t)
	young, old := keepTree(t, c, "young", TreeInfo{}), keepTree(t, c, "old", TreeInfo{Size: 7})
	info := func(chain digest.Digest) string {
		return filepath.Join(dirs.Cache, treesDir, chain.Encoded(), treeInfo)
	}
	before := time.Now().Add(-2 * writtenBack)
	if err := errors.Join(os.Chtimes(info(old), before, before), c.syncTrees(time.Now().Add(-writtenBack))); err != nil {
		t.Fatal(err)
	}
	if got := c.found(t, young, old); !slices.Equal(got, []string{"young", "old"}) {
		t.Errorf("found %q in this boot", got)
	}
	for _, chain := range []digest.Digest{young, old} {
		data, err := os.ReadFile(info(chain))
		if err != nil || bootID() == "" || !strings.Contains(string(data), bootID()) {
			t.Fatalf("%s, %v", data, err)
		}
		data = []byte(strings.ReplaceAll(string(data), bootID(), "another"))
		if err := os.WriteFile(info(chain), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := c.found(t, young, old); !slices.Equal(got, []string{"old"}) {
		t.Errorf("found %q in the next boot", got)
	}
	keepTree(t, c, "young", TreeInfo{})
	if got := c.found(t, young); !slices.Equal(got, []string{"young"}) {
		t.Errorf("found %q when it was made again", got)
	}
	if err := os.WriteFile(info(young), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := keepTree(t, c, "other", TreeInfo{})
	if err := errors.Join(os.Chtimes(info(young), before, before), os.Remove(info(other)), c.TidyTrees()); err != nil {
		t.Fatal(err)
	}
	if left := listTrees(t, dirs.Cache); !slices.Equal(left, []string{old.Encoded()}) {
		t.Errorf("left: %q", left)
	}
}

func TestUnwritten(t *testing.T) {
	const text = "MemTotal:       48916464 kB\nDirty:              1260 kB\nWriteback:            40 kB\nWritebackTmp:       9000 kB\n"
	for memory, want := range map[string]int64{text: 1300 << 10, "": 0, "Dirty: much\n": 0} {
		if got := unwritten(memory); got != want {
			t.Errorf("%q: %d, want %d", memory, got, want)
		}
	}
}

func TestTrimTrees(t *testing.T) {
	c, dirs := newCache(t)
	if err := c.TidyTrees(); err != nil {
		t.Error("of nothing: ", err)
	}
	base := keepTree(t, c, "base", TreeInfo{Size: 50})
	old := keepTree(t, c, "old", TreeInfo{Below: base, Size: 30})
	other := keepTree(t, c, "other", TreeInfo{Size: 40})
	over := keepTree(t, c, "over", TreeInfo{Below: other, Size: 1})
	for i, chain := range []digest.Digest{other, old, over, base} { // the longest unused first
		when := time.Unix(1_700_000_000+int64(i), 0)
		if err := os.Chtimes(filepath.Join(dirs.Cache, treesDir, chain.Encoded()), when, when); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.NewTree(); err != nil { // whose process is killed
		t.Fatal(err)
	}
	release, err := c.Lock(Shared)
	if err != nil {
		t.Fatal(err)
	}
	another := OpenCache(dirs)
	if err := another.trimTrees(85); err != nil || len(listTrees(t, dirs.Cache)) != 5 {
		t.Errorf("while it is in use: %v, %q", err, listTrees(t, dirs.Cache))
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if err := another.trimTrees(85); err != nil {
		t.Fatal(err)
	}
	if left := listTrees(t, dirs.Cache); len(left) != 2 || slices.ContainsFunc(left, func(n string) bool { return n[0] == '.' }) {
		t.Errorf("left: %q", left)
	}
	if got := c.found(t, base, old, other, over); !slices.Equal(got, []string{"base", "old"}) {
		t.Errorf("found %q, want base and what lies over it", got)
	}
}

func TestClearTrees(t *testing.T) {
	for _, test := range []struct {
		req  ClearRequest
		want []string
	}{
		{ClearRequest{Orphans: true}, []string{"used"}},
		{ClearRequest{Build: true}, nil},
		{ClearRequest{}, nil},
	} {
		c, dirs := newCache(t)
		storeImage(t, c, "a", "x86_64", "base")
		layer := digest.FromString("base")
		used := keepTree(t, c, "used", TreeInfo{Layers: []digest.Digest{layer}})
		orphan := keepTree(t, c, "orphan", TreeInfo{Layers: []digest.Digest{layer, digest.FromString("gone")}})
		if _, err := c.NewTree(); err != nil {
			t.Fatal(err)
		}
		freed, removed := test.req.run(t, c)
		if got := c.found(t, used, orphan); !slices.Equal(got, test.want) {
			t.Errorf("%+v: left %q, want %q", test.req, got, test.want)
		}
		if freed == 0 || !slices.Contains(removed, treesDir+"/"+orphan.Encoded()) {
			t.Errorf("%+v: freed %d, removed %q", test.req, freed, removed)
		}
		if slices.ContainsFunc(listTrees(t, dirs.Cache), func(n string) bool { return strings.HasPrefix(n, ".") }) {
			t.Errorf("%+v leaves %q", test.req, listTrees(t, dirs.Cache))
		}
	}
}
