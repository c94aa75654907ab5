package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// mutator changes a tree at random.
type mutator struct {
	t    testing.TB
	rand *rand.Rand
	host string
	n    int
}

// entries lists paths below the root that have a type which ok wants, "" included for the root.
func (m *mutator) entries(ok func(fs.DirEntry) bool) []string {
	var found []string
	check(m.t, filepath.WalkDir(m.host, func(path string, e fs.DirEntry, err error) error {
		if err == nil && ok(e) {
			found = append(found, strings.TrimPrefix(path[len(m.host):], "/"))
		}
		return err
	}))
	return found
}

func (m *mutator) pick(paths []string) (string, bool) {
	paths = slices.DeleteFunc(paths, func(p string) bool { return p == "" })
	if len(paths) == 0 {
		return "", false
	}
	return paths[m.rand.IntN(len(paths))], true
}

func isDir(e fs.DirEntry) bool     { return e.IsDir() }
func notDir(e fs.DirEntry) bool    { return !e.IsDir() }
func isAny(fs.DirEntry) bool       { return true }
func isRegular(e fs.DirEntry) bool { return e.Type().IsRegular() }

// newPath gives a path in some directory, whose name may be taken.
func (m *mutator) newPath() string {
	dirs := m.entries(isDir)
	return filepath.Join(dirs[m.rand.IntN(len(dirs))], string(rune('a'+m.rand.IntN(6))))
}

func (m *mutator) content() []byte {
	m.n++
	return []byte(strings.Repeat(fmt.Sprint(m.n%10), m.rand.IntN(3)))
}

func (m *mutator) step() {
	at := func(name string) string { return filepath.Join(m.host, name) }
	path := at(m.newPath())
	switch m.rand.IntN(14) {
	case 0, 1: // a new file, or other content with the same size and times
		if info, err := os.Lstat(path); err != nil || info.Mode().IsRegular() {
			if err := os.WriteFile(path, m.content(), 0o644); errors.Is(err, fs.ErrPermission) {
				return // as its mode has it
			} else {
				check(m.t, err)
			}
			if m.rand.IntN(2) == 0 {
				check(m.t, os.Chtimes(path, testTime, testTime))
			}
		}
	case 2, 3:
		os.Mkdir(path, 0o755)
	case 4:
		os.Symlink(string(rune('a'+m.rand.IntN(6))), path)
	case 5:
		os.RemoveAll(path)
	case 6, 7: // anything replaced by anything else that is there
		if name, ok := m.pick(m.entries(isAny)); ok && at(name) != path && !strings.HasPrefix(path, at(name)+"/") && !strings.HasPrefix(at(name), path+"/") {
			if m.rand.IntN(2) == 0 {
				os.RemoveAll(path)
			}
			os.Rename(at(name), path)
		}
	case 8, 9:
		if name, ok := m.pick(m.entries(notDir)); ok {
			os.Link(at(name), path)
		}
	case 10:
		if name, ok := m.pick(m.entries(isDir)); ok {
			check(m.t, os.Chmod(at(name), []fs.FileMode{0o755, 0o700, 0o1777, 0o2755}[m.rand.IntN(4)]|modeOf(m.rand)))
		}
	case 11:
		if name, ok := m.pick(m.entries(isRegular)); ok {
			check(m.t, os.Chmod(at(name), []fs.FileMode{0o644, 0o600, 0o444, 0o755}[m.rand.IntN(4)]|modeOf(m.rand)))
		}
	case 12:
		if name, ok := m.pick(m.entries(isAny)); ok && m.rand.IntN(3) == 0 {
			unix.Removexattr(at(name), "user.n")
		} else if ok {
			unix.Setxattr(at(name), "user.n", append(m.content(), 0xff), 0) // an empty one umoci cannot read
		}
	case 13:
		if name, ok := m.pick(m.entries(notDir)); ok {
			when := unix.NsecToTimespec(int64(1_500_000_000+m.rand.IntN(1000)) * 1e9)
			check(m.t, unix.UtimesNanoAt(unix.AT_FDCWD, at(name), []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW))
		}
	}
}

func modeOf(r *rand.Rand) fs.FileMode {
	if r.IntN(5) == 0 {
		return fs.ModeSticky
	}
	return 0
}

// describe tells all about a tree that a layer can hold, by path. Hard links are told by the
// first of their names. A directory's time counts only if it is in timed, or timed is nil.
func describe(t testing.TB, host string, timed map[string]bool) map[string]string {
	t.Helper()
	found := map[string]string{}
	first := map[uint64]string{}
	check(t, filepath.WalkDir(host, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == host {
			return err
		}
		name := path[len(host)+1:]
		var st unix.Stat_t
		check(t, unix.Lstat(path, &st))
		line := fmt.Sprintf("%o", st.Mode)
		if !e.IsDir() || timed == nil || timed[name] {
			line += fmt.Sprintf(" at %d", st.Mtim.Sec)
		}
		if !e.IsDir() {
			if first[st.Ino] == "" {
				first[st.Ino] = name
			}
			line += " as " + first[st.Ino]
		}
		switch {
		case e.Type().IsRegular():
			data, err := os.ReadFile(path)
			check(t, err)
			line += " has " + string(data)
		case e.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			check(t, err)
			line += " to " + target
		}
		if e.Type() != fs.ModeSymlink {
			attrs := xattrs(path)
			for _, attr := range slices.Sorted(maps.Keys(attrs)) {
				line += fmt.Sprintf(" %s=%q", attr, attrs[attr])
			}
		}
		found[name] = line
		return nil
	}))
	return found
}

// dirsIn gives the directories that a layer has entries for.
func dirsIn(t testing.TB, archive []byte) map[string]bool {
	dirs := map[string]bool{}
	for _, line := range entriesOf(t, archive) {
		if name, _, ok := strings.Cut(line, "/ dir "); ok {
			dirs[name] = true
		}
	}
	return dirs
}

// checkRoundTrip applies mutations to a tree in several rounds, and after each the
// layer of what has changed to a copy.
func checkRoundTrip(t *testing.T, seed uint64, rounds, steps int) {
	ctx := context.Background()
	root, host := newRoot(t)
	copied, target := newRoot(t)
	m := &mutator{t: t, rand: rand.New(rand.NewPCG(seed, seed)), host: host}
	var before *Tree
	var layers [][]byte
	for round := range rounds {
		for range steps {
			m.step()
		}
		archive, stats := diffOf(t, root, before, DiffOptions{})
		if again, _ := diffOf(t, root, before, DiffOptions{}); !bytes.Equal(archive, again) {
			t.Fatal("the same diff gives other bytes")
		}
		if _, err := Apply(ctx, copied, bytes.NewReader(archive), Options{Whiteouts: true}); err != nil {
			t.Fatal(err)
		}
		timed := dirsIn(t, archive)
		if diff := cmp.Diff(describe(t, host, timed), describe(t, target, timed)); diff != "" {
			t.Fatalf("round %d:\n%s\nlayer: %q", round, diff, entriesOf(t, archive))
		}
		layers = append(layers, archive)
		before = stats.After
	}
	// All of it, as another machine would have it.
	flat, flatHost := newRoot(t)
	for _, archive := range layers {
		_, err := Apply(ctx, flat, bytes.NewReader(archive), Options{Whiteouts: true})
		check(t, err)
	}
	if diff := cmp.Diff(describe(t, target, nil), describe(t, flatHost, nil)); diff != "" {
		t.Errorf("all layers again:\n%s", diff)
	}
}

func TestRoundTripRandom(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { checkRoundTrip(t, seed, 4, 3+int(seed)) })
	}
}

// FuzzRoundTrip tries more than TestRoundTripRandom has the time for.
func FuzzRoundTrip(f *testing.F) {
	f.Add(uint64(1), uint8(3), uint8(20))
	f.Fuzz(func(t *testing.T, seed uint64, rounds, steps uint8) {
		checkRoundTrip(t, seed, int(rounds%6), int(steps%80))
	})
}

// The tree must not depend on being packed where it lies: two copies give the same bytes.
func TestDiffReproducible(t *testing.T) {
	var archives [][]byte
	for _, order := range []string{"a b c d e f g h", "h g f e d c b a"} {
		root, host := newRoot(t)
		script(t, host, "mkdir d; for i in "+order+"; do printf $i >d/$i; done; ln d/a d/z; ln -s a d/l; touch -hd @1500000000.123 d/* d")
		archive, _ := diffOf(t, root, nil, DiffOptions{})
		archives = append(archives, archive)
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("the order of creation shows")
	}
}

// BenchmarkDiff is what a step that changes one file costs in a tree of 20,000 files.
func BenchmarkDiff(b *testing.B) {
	root, host := newRoot(b)
	for i := range 20_000 {
		dir := filepath.Join(host, fmt.Sprintf("usr/share/dir%d/sub%d", i/200, i/10%20))
		if i%10 == 0 {
			check(b, os.MkdirAll(dir, 0o755))
		}
		check(b, os.WriteFile(filepath.Join(dir, fmt.Sprintf("file%d", i)), []byte("text"), 0o644))
	}
	ctx := context.Background()
	time.Sleep(20 * time.Millisecond)
	b.Run("snapshot", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, err := Snapshot(ctx, root, nil)
			check(b, err)
		}
	})
	b.Run("snapshot and diff", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			before, err := Snapshot(ctx, root, func(path string) bool { return path == "/dev" })
			check(b, err)
			check(b, os.WriteFile(filepath.Join(host, "usr/share/dir0/changed"), fmt.Append(nil, i), 0o644))
			_, stats := diffOf(b, root, before, DiffOptions{Skip: func(path string) bool { return path == "/dev" }})
			if stats.Entries != 4 {
				b.Fatalf("%d entries", stats.Entries)
			}
		}
	})
}
