package build

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proot-distro/internal/engine"
	"proot-distro/internal/engine/native"
	"proot-distro/internal/report"
)

// changes is what commands do to files that lower layers brought.
const changes = `FROM scratch AS box
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox mkdir -p /etc /tmp && /bin/busybox chmod 1777 /tmp && /bin/busybox --install -s /bin"]
FROM box
COPY tree /tree
RUN rm -r /tree/a; mkdir /tree/a; echo new > /tree/a/g
RUN rm -r /tree/b; mkdir -p /tree/b/s; echo other > /tree/b/f; echo more > /tree/b/s/x
RUN rm /tree/c/* && : && rmdir /tree/c/
RUN mv /tree/d/f /tree/d/g; chmod 750 /tree/d; ln /tree/d/g /tree/h; ln -s g /tree/d/l
RUN : <> /tree/e; : >> /tree/e; true < /tree/e
COPY tree/e /tree/b/e
RUN cp -p /tree/e /tree/x && mv /tree/x /tree/e; touch -d @978307200 /tree/b/e; mkfifo /tree/p; rm -r /tmp; mkdir -m 1777 /tmp
RUN --mount=type=bind,target=/tree/b/s --mount=type=tmpfs,target=/new/tmpfs chmod -R go-r /tree/b; echo x > /new/file
USER 5:6
WORKDIR /own
RUN rm -rf /tmp/x; echo x > /tmp/x
`

// Whether layers are unpacked or stacked, and whatever engine runs the commands, an image has the same bytes.
func TestBothWaysGiveTheSameImage(t *testing.T) {
	if !mayMount() {
		return // TestMain runs this again
	}
	nativeEngine, err := native.New()
	if err != nil {
		t.Fatal("the native engine is half of what is tested: ", err)
	}
	var want []string
	for _, way := range []struct {
		name    string
		stacks  bool
		prepare func(engine.Spec) (engine.Process, error)
	}{
		{"unpacked, proot", false, nil}, {"stacked, proot", true, nil},
		{"unpacked, native", false, nativeEngine.Prepare}, {"stacked, native", true, nativeEngine.Prepare},
	} {
		b := newBench(t)
		b.MayMount = way.stacks
		if way.prepare != nil {
			b.Prepare = way.prepare
		}
		b.write("busybox", "@busybox\n")
		for _, name := range []string{"a/f", "a/g", "b/f", "b/s/y", "c/f", "c/g", "d/f", "e"} {
			b.write("tree/"+name, name)
		}
		b.write("Dockerfile", changes)
		result := b.build(b.request("epoch 1000000000"))[0]
		got := []string{"image " + result.Descriptor().Digest.String()}
		for _, blob := range result.Image.Layers {
			got = append(got, "layer "+blob.Descriptor().Digest.String())
			eachEntry(t, blob, func(h *tar.Header, content []byte) {
				got = append(got, fmt.Sprintf("%s %s %d %v", h.Name, describeEntry(h, content), h.ModTime.Unix(), h.PAXRecords))
			})
		}
		if want == nil {
			want = got
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", way.name, diff)
		}
		if trees, _ := filepath.Glob(filepath.Join(b.Host.Dirs.Cache, "build_trees", "[0-9a-f]*")); (len(trees) > 5) != way.stacks {
			t.Errorf("%s: %d trees are kept", way.name, len(trees))
		}
	}
}

// tasks counts what is begun, by the first word.
type tasks struct {
	*recorder
	begun map[string]int
}

func (r *tasks) Begin(task report.Task) report.Meter {
	word, _, _ := strings.Cut(task.Label, " ")
	r.begun[word]++
	return r.recorder.Begin(task)
}

// What was unpacked once is not unpacked again by a later build.
func TestTreesAreUsedAgain(t *testing.T) {
	if !mayMount() {
		return
	}
	b := newBench(t)
	b.write("busybox", "@busybox\n")
	b.write("f", "1")
	b.write("Dockerfile", boxDockerfile+"RUN /bin/busybox touch /one\nCOPY f /f\nCOPY f /g\nRUN /bin/busybox touch /two\n")
	r := &tasks{b.log, map[string]int{}}
	b.Report = r
	b.build(b.request(""))
	if r.begun["Extracting"] == 0 {
		t.Error("nothing was unpacked")
	}
	clear(r.begun)
	req := b.request("")
	req.Dockerfile = bytes.ReplaceAll(req.Dockerfile, []byte("/two"), []byte("/three"))
	got := b.listFiles(b.build(req)[0])
	if n := r.begun["Extracting"]; n != 0 {
		t.Errorf("%d layers were unpacked again", n)
	}
	if !strings.Contains(got, "/three ") || !strings.Contains(got, "/one ") || strings.Contains(got, "/two ") {
		t.Errorf("it has:\n%s", got)
	}
}

// More layers than an overlay can have are unpacked into one tree.
func TestManyLayers(t *testing.T) {
	b := newBench(t)
	b.write("busybox", "@busybox\n")
	text := boxDockerfile
	for range maxTrees + 3 {
		text += "RUN echo x >> /count\n"
	}
	b.write("Dockerfile", text+"RUN [ $(/bin/busybox wc -l < /count) = 66 ]\n")
	eng, err := native.New()
	if err != nil {
		t.Fatal("this takes the native engine, for speed: ", err)
	}
	b.Prepare = eng.Prepare
	b.build(b.request(""))
}

// A RUN that changes nothing makes no layer, and leaves no blob.
func TestRunWithoutEffect(t *testing.T) {
	b := newBench(t)
	b.write("busybox", "@busybox\n")
	b.write("Dockerfile", boxDockerfile)
	b.build(b.request(""))
	blobs := func() int {
		entries, err := os.ReadDir(b.Host.Dirs.Layers())
		check(t, err)
		return len(entries)
	}
	before := blobs()
	b.write("Dockerfile", boxDockerfile+"RUN /bin/busybox touch /tmp-x; /bin/busybox rm /tmp-x\n")
	result := b.build(b.request(""))[0]
	if len(result.Image.Layers) != 2 || blobs() != before {
		t.Errorf("%d layers; %d blobs, before %d", len(result.Image.Layers), blobs(), before)
	}
}

// A build that failed leaves no tree half-made, and the steps before it their trees.
func TestFailedBuildLeavesNothing(t *testing.T) {
	b := newBench(t)
	b.write("busybox", "@busybox\n")
	b.write("Dockerfile", boxDockerfile+"RUN echo x > /x; exit 3\n")
	if _, err := b.Build(context.Background(), b.request("")); err == nil {
		t.Fatal("it did not fail")
	}
	for _, pattern := range []string{"cache/build_trees/.*", "data/build/*"} {
		left, err := filepath.Glob(filepath.Join(filepath.Dir(b.Host.Dirs.Cache), pattern))
		check(t, err)
		if left = slices.DeleteFunc(left, func(f string) bool { return strings.HasSuffix(f, ".lock") }); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	}
}
