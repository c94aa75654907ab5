package durability

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

const goarch = runtime.GOARCH

// kills is how often a command is killed.
func kills(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("PD_KILLS"))
	if err != nil && os.Getenv("PD_KILLS") != "" {
		t.Fatalf("PD_KILLS: %v", err)
	}
	if n == 0 {
		n = 12
	}
	return n
}

// act is a command that changes something.
type act struct {
	command []string
	prepare func(w *world) // brings the old state about, wherever the last kill left things
	old     map[string]string
	new     map[string]string
	// check looks at what containers do not show; may be nil. killed tells it from the end.
	check func(w *world, killed bool)
}

func TestKilled(t *testing.T) {
	w := newWorld(t, quickDir(t))
	w.writeImage(300, 100)
	w.tormentEach(w.acts())
}

// TestKilledFull: the same for containers whose files have owners. There the program runs itself once more, in a user
// namespace: what was killed must not go on.
func TestKilledFull(t *testing.T) {
	w := newUserWorld(t)
	w.writeImage(100, 100)
	acts := w.acts("--userns", "full")
	delete(acts, "clear-cache") // has nothing to do with owners
	w.tormentEach(acts)
}

// acts are those on a container that is installed with such options.
func (w *world) acts(options ...string) map[string]act {
	install := func(name string) []string {
		return append([]string{"install", "-q", "./image.tar", "--name", name}, options...)
	}
	w.pd(install("box")...)
	clean := w.snapshot()["box"]
	damage(w, "box")
	damaged := w.snapshot()["box"]
	w.pd("remove", "-q", "box")
	if clean == damaged {
		w.t.Fatal("the fingerprint sees no damage")
	}
	box := func(state string) map[string]string { return map[string]string{"box": state} }
	fresh := func(w *world) {
		w.remove("box", "crate")
		w.pd(install("box")...)
	}
	return map[string]act{
		"install": {command: install("box"), prepare: func(w *world) { w.remove("box") }, old: map[string]string{}, new: box(clean)},
		"remove":  {command: []string{"remove", "box"}, prepare: fresh, old: box(clean), new: map[string]string{}},
		"reset": {
			command: []string{"reset", "box"},
			prepare: func(w *world) { fresh(w); damage(w, "box") },
			old:     box(damaged), new: box(clean),
		},
		"clone": {
			command: []string{"clone", "box", "crate"}, prepare: fresh,
			old: box(clean), new: map[string]string{"box": clean, "crate": clean},
		},
		"clear-cache": {
			command: []string{"clear-cache"},
			prepare: func(w *world) { fresh(w); w.pd(install("crate")...) },
			old:     map[string]string{"box": clean, "crate": clean}, new: map[string]string{"box": clean, "crate": clean},
			check: checkCache,
		},
	}
}

func (w *world) tormentEach(acts map[string]act) {
	for name, a := range acts {
		w.t.Run(name, func(t *testing.T) {
			w := *w
			w.t = t
			w.torment(a)
		})
	}
}

// torment kills a command again and again. After each kill the old state is found, or the new one; and the
// command, when it is run again on the old one, gets to the new one.
func (w *world) torment(a act) {
	w.t.Helper()
	a.prepare(w)
	takes := w.timed(a.command...)
	w.same("the command at peace", a.new)
	seen := map[string]int{}
	for range kills(w.t) {
		a.prepare(w)
		w.same("before the kill", a.old)
		if w.kill(&takes, a.command...) {
			seen["too late"]++
		}
		found := w.snapshot()
		switch {
		case maps.Equal(found, a.new):
			seen["new"]++
		case maps.Equal(found, a.old):
			seen["old"]++
		default:
			w.t.Fatalf("found %v, which is neither\n%v nor\n%v", found, a.old, a.new)
		}
		if a.check != nil {
			a.check(w, true)
		}
		if maps.Equal(found, a.old) && !maps.Equal(a.old, a.new) {
			takes = w.timed(a.command...)
			w.same("the command once more", a.new)
		}
		if a.check != nil {
			a.check(w, false)
		}
	}
	w.t.Logf("%v within %v", seen, takes)
	if seen["too late"] == kills(w.t) {
		w.t.Error("every kill came too late")
	}
	a.prepare(w)
	w.remove("box", "crate")
	w.noStaging()
}

func (w *world) same(when string, want map[string]string) {
	w.t.Helper()
	if found := w.snapshot(); !maps.Equal(found, want) {
		w.t.Fatalf("%s: found %v, not %v", when, found, want)
	}
}

// damage changes a container so that only a reset brings it back.
func damage(w *world, name string) {
	w.t.Helper()
	root := w.rootfs(name)
	if err := os.WriteFile(filepath.Join(root, "etc/release"), []byte("mine"), 0o644); err != nil {
		w.t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(root, "usr/0")); err != nil {
		w.t.Fatal(err)
	}
}

// checkCache: what is left of the cache is sound, and is cleared by the next attempt.
func checkCache(w *world, killed bool) {
	w.t.Helper()
	if !killed {
		w.pd("clear-cache")
		left, err := os.ReadDir(filepath.Join(w.home, ".cache/proot-distro"))
		if err != nil || len(left) > 0 {
			w.t.Fatalf("left in the cache: %v, %v", left, err)
		}
		return
	}
	w.pd("list", "--image")
	w.pd("install", "-q", "./image.tar", "--name", "third")
	w.pd("remove", "-q", "third")
}

// TestKilledBackup: a backup has its name only when it is complete; a restore replaces a container at once.
func TestKilledBackup(t *testing.T) {
	w := newWorld(t, quickDir(t))
	w.writeImage(300, 100)
	w.pd("install", "-q", "./image.tar", "--name", "box")
	clean := w.snapshot()
	takes := w.timed("backup", "box", "--output", "box.tar.gz")
	seen := map[string]int{}
	for i := range kills(t) {
		name := []string{"box.tar.gz", "box.tar.zst"}[i%2] // compressed by ourselves, or by another program
		if err := os.Remove(filepath.Join(w.work, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		w.kill(&takes, "backup", "box", "--output", name)
		if _, err := os.Stat(filepath.Join(w.work, name)); err == nil {
			seen["whole"]++
		} else {
			seen["none"]++
			takes = w.timed("backup", "box", "--output", name)
		}
		w.same("after a backup", clean)
		w.remove("box")
		w.pd("restore", name)
		w.same("from the backup", clean)
	}
	t.Logf("%v within %v", seen, takes)
	if hidden, err := filepath.Glob(filepath.Join(w.work, ".box*")); err != nil || len(hidden) > 0 {
		t.Errorf("left: %q, %v", hidden, err)
	}
	damage(w, "box")
	damaged := w.snapshot()
	t.Run("restore", func(t *testing.T) {
		w := *w
		w.t = t
		w.torment(act{
			command: []string{"restore", "box.tar.gz"},
			prepare: func(w *world) { w.remove("box"); w.pd("restore", "-q", "box.tar.gz"); damage(w, "box") },
			old:     damaged, new: clean,
		})
	})
}

// TestKilledRename looks at links too, which rename brings up to date.
func TestKilledRename(t *testing.T) {
	w := newWorld(t, quickDir(t))
	w.writeImage(100, 10)
	w.pd("install", "-q", "./image.tar", "--name", "box")
	root := w.rootfs("box")
	for i := range 200 {
		file := fmt.Sprintf(".l2s/.l2s.f%04d", i)
		if err := os.MkdirAll(filepath.Join(root, ".l2s"), 0o755); err != nil {
			t.Fatal(err)
		}
		for link, target := range map[string]string{fmt.Sprint("etc/", i): file, fmt.Sprint("usr/l", i): file, file: file + ".0002"} {
			if err := os.Symlink(filepath.Join(root, target), filepath.Join(root, link)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(root, file+".0002"), fmt.Append(nil, i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := w.snapshot()["box"]
	takes := w.timed("rename", "box", "crate")
	w.pd("rename", "crate", "box")
	seen := map[string]int{}
	for range kills(t) {
		w.kill(&takes, "rename", "box", "crate")
		found := w.containers()
		if len(found) != 1 {
			t.Fatalf("found %v", found)
		}
		seen[found[0]]++
		if found[0] == "box" {
			w.pd("rename", "box", "crate")
		}
		w.pd("rename", "crate", "box") // finishes what is unfinished first
		w.same("renamed back", map[string]string{"box": want})
		for i := range 200 {
			for _, link := range []string{"etc/", "usr/l"} {
				target, err := os.Readlink(filepath.Join(root, link+strconv.Itoa(i)))
				if err != nil || !strings.HasPrefix(target, root+"/") {
					t.Fatalf("%s%d leads to %s, %v", link, i, target, err)
				}
				if data, err := os.ReadFile(filepath.Join(root, link+strconv.Itoa(i))); err != nil || string(data) != strconv.Itoa(i) {
					t.Fatalf("%s%d: %q, %v", link, i, data, err)
				}
			}
		}
	}
	t.Logf("%v within %v", seen, takes)
	w.noStaging()
}

// TestKilledTransfer: copy and sync replace each file at once.
func TestKilledTransfer(t *testing.T) {
	w := newWorld(t, quickDir(t))
	w.writeImage(20, 10)
	w.pd("install", "-q", "./image.tar", "--name", "box")
	versions := [2][]byte{bytes.Repeat([]byte("old"), 3<<20), bytes.Repeat([]byte("newer"), 2<<20)}
	const files = 4
	for v, content := range versions {
		dir := filepath.Join(w.work, fmt.Sprint("v", v))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for i := range files {
			if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	inside := filepath.Join(w.rootfs("box"), "data")
	for name, command := range map[string]func(version int) []string{
		"copy": func(v int) []string { return []string{"copy", fmt.Sprintf("./v%d/0", v), "box:/data/0"} },
		"sync": func(v int) []string { return []string{"sync", "--delete", fmt.Sprintf("./v%d", v), "box:/data"} },
	} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.t = t
			w.pd("sync", "--delete", "./v0", "box:/data")
			takes := w.timed(command(1)...)
			seen := map[int]int{}
			for i := range kills(t) {
				to := i % 2
				w.kill(&takes, command(to)...)
				for f := range files {
					data, err := os.ReadFile(filepath.Join(inside, strconv.Itoa(f)))
					if err != nil {
						t.Fatal(err)
					}
					switch {
					case bytes.Equal(data, versions[0]):
						seen[0]++
					case bytes.Equal(data, versions[1]):
						seen[1]++
					default:
						t.Fatalf("file %d is neither: %d bytes", f, len(data))
					}
				}
				takes = w.timed(command(to)...)
			}
			t.Logf("%v within %v", seen, takes)
			w.pd("sync", "--delete", "./v1", "box:/data")
			entries, err := os.ReadDir(inside)
			if err != nil || len(entries) != files {
				t.Errorf("left: %v, %v", entries, err)
			}
		})
	}
}
