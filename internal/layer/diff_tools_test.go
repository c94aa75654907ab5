package layer

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// run runs a program that the test cannot do without.
func run(t testing.TB, argv ...string) {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("this test needs a working %s: %s: %v\n%s", argv[0], strings.Join(argv, " "), err, out)
	}
}

// What umoci unpacks, also after skopeo has copied it, is what was packed.
func TestDiffUmoci(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			root, host := newRoot(t)
			dir := t.TempDir()
			image := filepath.Join(dir, "layout") + ":x"
			run(t, "umoci", "init", "--layout", filepath.Join(dir, "layout"))
			run(t, "umoci", "new", "--image", image)
			m := &mutator{t: t, rand: rand.New(rand.NewPCG(seed, 7)), host: host}
			timed := map[string]bool{}
			var before *Tree
			for range 3 {
				for range 30 {
					m.step()
				}
				archive, stats := diffOf(t, root, before, DiffOptions{})
				before = stats.After
				file := filepath.Join(dir, "layer.tar")
				check(t, os.WriteFile(file, archive, 0o600))
				run(t, "umoci", "raw", "add-layer", "--image", image, file)
				timed = dirsIn(t, archive)
			}
			run(t, "skopeo", "copy", "oci:"+image, "oci:"+filepath.Join(dir, "copy")+":x")
			for _, layout := range []string{"layout", "copy"} {
				bundle := filepath.Join(dir, layout+"-bundle")
				run(t, "umoci", "unpack", "--rootless", "--image", filepath.Join(dir, layout)+":x", bundle)
				if diff := cmp.Diff(describe(t, host, timed), describe(t, filepath.Join(bundle, "rootfs"), timed)); diff != "" {
					t.Errorf("%s: %s", layout, diff)
				}
			}
		})
	}
}

// standIn makes host/name a name of proot's for a file that is kept elsewhere in the tree.
func standIn(t testing.TB, host, name, link string, count int) {
	t.Helper()
	link = filepath.Join(host, link)
	file := fmt.Sprintf("%s.%04d", link, count)
	if _, err := os.Lstat(file); err != nil {
		check(t, os.WriteFile(file, []byte("content of "+filepath.Base(link)), 0o755))
	}
	if _, err := os.Lstat(link); err != nil {
		check(t, os.Symlink(file, link))
	}
	check(t, os.Symlink(link, filepath.Join(host, name)))
}

func TestDiffStandIns(t *testing.T) {
	root, host := newRoot(t)
	script(t, host, "mkdir -p usr/bin .l2s; touch usr/plain")
	standIn(t, host, "usr/bin/perl", ".l2s/.l2s.perl0001", 2)
	standIn(t, host, "usr/bin/perl5", ".l2s/.l2s.perl0001", 2)
	standIn(t, host, "usr/old", "usr/.l2s.old0001", 1)
	check(t, os.Symlink("/nowhere/.l2s.x0001", filepath.Join(host, "usr/stranger")))
	check(t, os.Symlink(filepath.Join(host, ".l2s/.l2s.none0001"), filepath.Join(host, "usr/dangling")))
	archive, stats := diffOf(t, root, nil, DiffOptions{})
	want := []string{
		"usr/ dir 755", "usr/bin/ dir 755", "usr/bin/perl file 755 content of .l2s.perl0001", "usr/bin/perl5 hard usr/bin/perl",
		"usr/dangling link " + filepath.Join(host, ".l2s/.l2s.none0001"), "usr/old file 755 content of .l2s.old0001",
		"usr/plain file 644", "usr/stranger link /nowhere/.l2s.x0001",
	}
	if diff := cmp.Diff(want, entriesOf(t, archive)); diff != "" {
		t.Error(diff)
	}
	// Writing through one name changes both; so does a link more.
	check(t, os.WriteFile(filepath.Join(host, ".l2s/.l2s.perl0001.0002"), []byte("new"), 0o755))
	archive, stats = diffOf(t, root, stats.After, DiffOptions{})
	want = []string{"usr/ dir 755", "usr/bin/ dir 755", "usr/bin/perl file 755 new", "usr/bin/perl5 hard usr/bin/perl"}
	if diff := cmp.Diff(want, entriesOf(t, archive)); diff != "" {
		t.Error(diff)
	}
	// The guest has linked a file that it had; nothing else of what proot did shows.
	check(t, os.Rename(filepath.Join(host, "usr/plain"), filepath.Join(host, ".l2s/.l2s.plain0001.0002")))
	standIn(t, host, "usr/plain", ".l2s/.l2s.plain0001", 2)
	standIn(t, host, "usr/bin/second", ".l2s/.l2s.plain0001", 2)
	check(t, os.Remove(filepath.Join(host, "usr/old")))
	archive, _ = diffOf(t, root, stats.After, DiffOptions{})
	want = []string{"usr/ dir 755", "usr/bin/ dir 755", "usr/bin/second file 644", "usr/.wh.old file 0", "usr/plain hard usr/bin/second"}
	if diff := cmp.Diff(want, entriesOf(t, archive)); diff != "" {
		t.Error(diff)
	}
	copied, target := newRoot(t)
	archive, _ = diffOf(t, root, nil, DiffOptions{})
	_, err := Apply(context.Background(), copied, bytes.NewReader(archive), Options{Whiteouts: true})
	check(t, err)
	if found := list(t, target, ""); strings.Contains(strings.Join(found, "\n"), "content of .l2s.perl") {
		t.Errorf("old content: %q", found)
	}
}
