package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"proot-distro/internal/platform"
)

const boxDockerfile = `FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "ln", "-s", "busybox", "/bin/sh"]
`

// cachedSteps are the headers of the last build that came from the cache, without their positions.
func (b *bench) cachedSteps() (cached, done []string) {
	for _, line := range b.log.infos {
		_, text, _ := strings.Cut(line, "] ")
		word, _, _ := strings.Cut(text, " ")
		if strings.HasPrefix(line, "CACHED") {
			cached = append(cached, word)
		} else if word != "FROM" {
			done = append(done, word)
		}
	}
	b.log.infos = nil
	return cached, done
}

// What a step depends on makes it miss when it changes, and what it does not depend on doesn't.
func TestStepsMissWhenTheirInputsChange(t *testing.T) {
	const dockerfile = `FROM box
ARG ARG=1
ENV ENV=1
COPY file /file
COPY dir /dir
RUN --mount=type=bind,source=mounted,target=/m /bin/busybox cat /m/x /proc/uptime > /ran
COPY last /last
`
	all := []string{"COPY", "COPY", "RUN", "COPY"}
	tests := []struct {
		name   string
		change func(t *testing.T, b *bench, req *Request)
		misses []string
	}{
		{"nothing", func(*testing.T, *bench, *Request) {}, nil},
		{"an mtime", func(t *testing.T, b *bench, _ *Request) {
			check(t, os.Chtimes(filepath.Join(b.context, "file"), time.Time{}, time.Unix(1, 0)))
		}, nil},
		{"a file that nobody copies", func(_ *testing.T, b *bench, _ *Request) { b.write("other", "x") }, nil},
		{"a label", func(_ *testing.T, b *bench, req *Request) { replace(req, "ENV ENV=1", "ENV ENV=1\nLABEL a=b") }, nil},
		{"content", func(_ *testing.T, b *bench, _ *Request) { b.write("last", "changed") }, []string{"COPY"}},
		{"content in a directory", func(_ *testing.T, b *bench, _ *Request) { b.write("dir/x", "changed") }, all[1:]},
		{"a new file in a directory", func(_ *testing.T, b *bench, _ *Request) { b.write("dir/new", "") }, all[1:]},
		{"a mode", func(t *testing.T, b *bench, _ *Request) {
			check(t, os.Chmod(filepath.Join(b.context, "dir/x"), 0o755))
		}, all[1:]},
		{"a file for a link", func(t *testing.T, b *bench, _ *Request) {
			check(t, os.Remove(filepath.Join(b.context, "dir/x")))
			check(t, os.Symlink("y", filepath.Join(b.context, "dir/x")))
		}, all[1:]},
		{"a mounted file", func(_ *testing.T, b *bench, _ *Request) { b.write("mounted/x", "changed") }, all[2:]},
		{"ARG", func(_ *testing.T, _ *bench, req *Request) { req.Args["ARG"] = "2" }, all[2:]},
		{"ENV", func(_ *testing.T, _ *bench, req *Request) { replace(req, "ENV=1", "ENV=2") }, all[2:]},
		{"the user", func(_ *testing.T, _ *bench, req *Request) { replace(req, "RUN", "USER 5\nRUN") }, all[2:]},
		{"the command", func(_ *testing.T, _ *bench, req *Request) { replace(req, "cat /m/x", "cat  /m/x") }, all[2:]},
		{"a proxy", func(_ *testing.T, _ *bench, req *Request) { req.Args["HTTP_PROXY"] = "http://x" }, nil},
		{"--chmod", func(_ *testing.T, _ *bench, req *Request) { replace(req, "COPY file", "COPY --chmod=600 file") }, all},
		{"--chown", func(_ *testing.T, _ *bench, req *Request) { replace(req, "COPY last", "COPY --chown=1 last") }, all[3:]},
		{"a destination", func(_ *testing.T, _ *bench, req *Request) { replace(req, "/last\n", "/last/\n") }, all[3:]},
		{"SOURCE_DATE_EPOCH", func(_ *testing.T, _ *bench, req *Request) {
			epoch := time.Unix(1, 0)
			req.Epoch = &epoch
		}, all},
		{"--no-cache", func(_ *testing.T, _ *bench, req *Request) { req.NoCache = true }, all},
		{"the base", func(_ *testing.T, b *bench, _ *Request) {
			b.write("Dockerfile.box", boxDockerfile+"COPY last /more\n")
			b.base("box", "Dockerfile.box")
		}, all},
		{"a damaged index", func(t *testing.T, b *bench, _ *Request) {
			check(t, os.WriteFile(filepath.Join(b.Host.Dirs.Cache, indexFile), []byte("{"), 0o600))
		}, all},
		{"a lost layer", func(t *testing.T, b *bench, _ *Request) {
			check(t, os.RemoveAll(b.Host.Dirs.Layers()))
			b.base("box", "Dockerfile.box")
		}, all},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			for name, content := range map[string]string{
				"Dockerfile": dockerfile, "Dockerfile.box": boxDockerfile, "busybox": "@busybox\n", "file": "f", "dir/x": "x",
				"mounted/x": "m\n", "last": "l",
			} {
				b.write(name, content)
			}
			b.base("box", "Dockerfile.box")
			req := b.request("")
			first := b.build(req)
			b.log.infos = nil
			again := b.build(req)
			if cached, done := b.cachedSteps(); len(done) > 0 || len(cached) != 4 {
				t.Fatalf("the second build did %v and had %v from the cache", done, cached)
			}
			if first[0].ID() != again[0].ID() {
				t.Errorf("a build from the cache is another image: %s, %s", first[0].ID(), again[0].ID())
			}
			test.change(t, b, &req)
			b.log.infos = nil
			b.build(req)
			if _, done := b.cachedSteps(); !slices.Equal(done, test.misses) {
				t.Errorf("%v missed, not %v", done, test.misses)
			}
		})
	}
}

func replace(req *Request, old, with string) {
	req.Dockerfile = []byte(strings.Replace(string(req.Dockerfile), old, with, 1))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What another stage brings counts by its content: a stage that is built anew and gives the same is a hit.
func TestCopyFromAnotherStageGoesByContent(t *testing.T) {
	b := newBench(t)
	b.write("busybox", "@busybox\n")
	b.write("in", "1")
	b.write("Dockerfile", `FROM scratch AS build
COPY busybox /bin/busybox
COPY in /in
RUN ["/bin/busybox", "touch", "/out"]
FROM scratch
COPY --from=build /out /out
`)
	req := b.request("")
	b.build(req)
	b.write("in", "2")
	b.log.infos = nil
	b.build(req)
	if cached, done := b.cachedSteps(); fmt.Sprint(cached, done) != "[COPY COPY] [COPY RUN]" {
		t.Errorf("cached: %v, done: %v", cached, done)
	}
}

// The same inputs give the same image on two machines, whatever their clocks say.
func TestEpochMakesImagesReproducible(t *testing.T) {
	build := func(age time.Duration) Result {
		b := newBench(t)
		for name, content := range map[string]string{
			"busybox": "@busybox\n", "tree/b": "b", "tree/a/x": "x", "tree/c -> b": "", "Dockerfile": `FROM scratch
COPY busybox /bin/
ENV A=1
WORKDIR /w
COPY tree .
RUN ["/bin/busybox", "sh", "-c", "echo x > /made; /bin/busybox mkdir /d; /bin/busybox touch /d/f"]
COPY --from=0 /d /e
ADD tree /t
CMD ["x"]
`} {
			b.write(name, content)
		}
		for _, name := range []string{"tree", "tree/b", "tree/a", "tree/a/x", "busybox"} {
			check(t, os.Chtimes(filepath.Join(b.context, name), time.Time{}, time.Now().Add(-age)))
		}
		req := b.request("epoch 1000000000")
		replace(&req, "COPY --from=0 /d /e\n", "")
		return b.build(req)[0]
	}
	first := build(0)
	time.Sleep(1100 * time.Millisecond) // times are whole seconds
	second := build(40 * 365 * 24 * time.Hour)
	if first.ID() != second.ID() || first.Descriptor().Digest != second.Descriptor().Digest {
		t.Errorf("two builds gave two images:\n%s\n%s", first.Record.Config, second.Record.Config)
	}
}

// Two builds at once share the index, and neither loses the other's steps.
func TestConcurrentBuildsShareTheCache(t *testing.T) {
	b := newBench(t)
	var files []string
	for i := range 8 {
		files = append(files, fmt.Sprintf("f%d", i))
		b.write(files[i], files[i])
	}
	b.write("Dockerfile", "FROM scratch\n")
	request := func(files []string) Request {
		req := b.request("")
		for _, f := range files {
			req.Dockerfile = append(req.Dockerfile, fmt.Sprintf("COPY %s /%s\n", f, f)...)
		}
		return req
	}
	var wait sync.WaitGroup
	for _, part := range [][]string{files[:4], files[4:]} {
		builder := *b.Builder
		builder.Report = &recorder{}
		builder.Report.(*recorder).Reporter = b.log.Reporter
		req := request(part)
		wait.Go(func() {
			if _, err := builder.Build(context.Background(), req); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	for _, part := range [][]string{files[:4], files[4:]} {
		b.log.infos = nil
		b.build(request(part))
		if _, done := b.cachedSteps(); len(done) > 0 {
			t.Errorf("lost: %v", done)
		}
	}
}

// What a killed build left is gone after the next one; what a living one uses stays.
func TestSweep(t *testing.T) {
	b := newBench(t)
	base := filepath.Join(b.Host.Dirs.Runtime, scratchDir)
	for _, name := range []string{"dead/root-1/x", "dead2/y"} {
		check(t, os.MkdirAll(filepath.Join(base, name), 0o755))
	}
	check(t, os.WriteFile(filepath.Join(base, "dead.lock"), nil, 0o600))
	living := newScratch(b.Host.Dirs)
	dir, err := living.dir("root")
	check(t, err)
	other := newScratch(b.Host.Dirs)
	_, err = other.dir("root")
	check(t, err)
	Sweep(b.Host.Dirs)
	if _, err := os.Stat(dir); err != nil {
		t.Error("a living build's directory is gone: ", err)
	}
	check(t, living.close())
	check(t, other.close())
	entries, err := os.ReadDir(base)
	check(t, err)
	if len(entries) > 0 {
		t.Errorf("left: %v", entries)
	}
}

// A cancelled build ends soon, and leaves nothing but what is complete.
func TestCancelledBuild(t *testing.T) {
	b := newBench(t)
	b.write("busybox", "@busybox\n")
	b.write("Dockerfile", "FROM scratch\nCOPY busybox /busybox\nRUN [\"/busybox\", \"sleep\", \"60\"]\n")
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(time.Second, cancel)
	start := time.Now()
	if _, err := b.Build(ctx, b.request("")); err == nil {
		t.Error("no error")
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	entries, _ := os.ReadDir(filepath.Join(b.Host.Dirs.Runtime, scratchDir))
	if len(entries) > 0 {
		t.Errorf("left: %v", entries)
	}
	b.log.infos = nil
	replaceRun := b.request("")
	replace(&replaceRun, "sleep\", \"60", "true")
	b.build(replaceRun)
	if cached, done := b.cachedSteps(); len(cached) != 1 || len(done) != 1 {
		t.Errorf("cached %v, done %v", cached, done)
	}
}

// Two platforms give two images; RUN of the foreign one is emulated.
func TestSeveralPlatforms(t *testing.T) {
	b := newBench(t)
	b.write("Dockerfile", "FROM scratch\nARG TARGETARCH\nENV A=$TARGETARCH\nCOPY Dockerfile /x\n")
	req := b.request("")
	req.Platforms = []platform.Arch{platform.X86_64, platform.ARM}
	results := b.build(req)
	b.tag(results, "two")
	index, err := Index(results)
	check(t, err)
	if !strings.Contains(string(index), `"architecture":"arm"`) || !strings.Contains(string(index), `"variant":"v7"`) {
		t.Errorf("index: %s", index)
	}
	for i, want := range []string{"A=amd64", "A=arm"} {
		if !strings.Contains(string(results[i].Record.Config), want) {
			t.Errorf("config %d has no %s: %s", i, want, results[i].Record.Config)
		}
	}
}
