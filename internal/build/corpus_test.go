package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"proot-distro/internal/dockerfile"
	"proot-distro/internal/engine"
	"proot-distro/internal/engine/native"
	"proot-distro/internal/engine/proot"
	"proot-distro/internal/host"
	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/report"
	"proot-distro/internal/sshagent"
)

var update = flag.Bool("update", false, "write what the corpus gives into testdata")

// Every file of testdata/corpus is a Dockerfile with its context, options, and what has to come of it: the
// config, all files of the image, the warnings, the error.
func TestCorpus(t *testing.T) {
	files, err := filepath.Glob("testdata/corpus/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("there is no corpus: ", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { newBench(t).corpusCase(file) })
	}
}

// Whatever a RUN runs on, the image is the same.
func TestCorpusOnTheNativeEngine(t *testing.T) {
	eng, err := native.New()
	if err != nil {
		t.Fatal("the native engine is half of what is tested: ", err)
	}
	files, _ := filepath.Glob("testdata/corpus/*.txtar")
	for _, file := range files {
		if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "\nRUN ") {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			b := newBench(t)
			b.Prepare = eng.Prepare
			b.corpusCase(file)
		})
	}
}

func (b *bench) corpusCase(file string) {
	t := b.t
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var options string
	want := map[string]string{}
	for _, f := range archive.Files {
		switch first, rest, _ := strings.Cut(f.Name, "/"); first {
		case "options":
			options = string(f.Data)
		case "want":
			want[rest] = string(f.Data)
		default:
			b.write(f.Name, string(f.Data))
		}
	}
	req := b.request(options)
	got := map[string]string{}
	var results []Result
	if b.onlyCheck {
		_, err = b.Check(context.Background(), req)
	} else {
		results, err = b.Build(context.Background(), req)
	}
	if err != nil {
		got["error"] = b.describe(err)
	} else if !b.onlyCheck {
		got["config"] = configOf(t, results[0])
		got["files"] = b.listFiles(results[0])
	}
	if len(b.log.warnings) > 0 {
		got["warnings"] = strings.Join(b.log.warnings, "\n") + "\n"
	}
	if *update {
		archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return strings.HasPrefix(f.Name, "want/") })
		for _, name := range slices.Sorted(maps.Keys(got)) {
			archive.Files = append(archive.Files, txtar.File{Name: "want/" + name, Data: []byte(got[name])})
		}
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("wanted (-) and got (+):\n%s", diff)
	}
}

// bench is a Builder with a state directory and a context of its own.
type bench struct {
	*Builder
	t         *testing.T
	context   string
	log       *recorder
	bases     map[string]string // files of the base
	lowest    image.Blob        // of the base
	onlyCheck bool
}

func newBench(t *testing.T) *bench {
	t.Helper()
	dir := t.TempDir()
	h := &host.Host{
		Arch: platform.Binary(), Getenv: os.Getenv, Home: dir,
		Dirs: host.Dirs{Runtime: filepath.Join(dir, "data"), Cache: filepath.Join(dir, "cache")},
	}
	cache := image.OpenCache(h.Dirs)
	b := &bench{t: t, context: filepath.Join(dir, "context"), log: &recorder{Reporter: report.Discard}, bases: map[string]string{}}
	b.Builder = &Builder{
		Cache: cache, Host: h, Report: b.log, Version: "test", Output: func(line string) { b.log.output = append(b.log.output, line) },
		Prepare: func(spec engine.Spec) (engine.Process, error) {
			eng, err := proot.New(proot.Config{Host: h, Reporter: report.Discard})
			if err != nil {
				return nil, err
			}
			return eng.Prepare(spec)
		},
		Emulator: func(guest platform.Arch) (string, error) {
			return engine.FindEmulator(h, guest, "")
		},
		MayMount: mayMount(),
	}
	if err := os.MkdirAll(b.context, 0o755); err != nil {
		t.Fatal(err)
	}
	return b
}

// write puts a file into the context. Of "@busybox" it becomes a static busybox of this machine, and a
// name that ends in " -> x" a link.
func (b *bench) write(name, content string) {
	b.t.Helper()
	name, target, isLink := strings.Cut(name, " -> ")
	full := filepath.Join(b.context, name)
	err := os.MkdirAll(filepath.Dir(full), 0o755)
	mode := os.FileMode(0o644)
	if content == "@busybox\n" {
		data, readErr := os.ReadFile("/bin/busybox")
		if readErr != nil {
			b.t.Fatal("the corpus needs Debian's busybox-static: ", readErr)
		}
		content, mode = string(data), 0o755
	}
	if isLink {
		err = errors.Join(err, os.Symlink(target, full))
	} else {
		err = errors.Join(err, os.WriteFile(full, []byte(content), mode), os.Chmod(full, mode))
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// request reads options, one a line: "arg K=V", "target NAME", …
func (b *bench) request(options string) Request {
	b.t.Helper()
	req := Request{
		Name: "Dockerfile", Context: b.context, Platforms: []platform.Arch{platform.X86_64}, Args: map[string]string{},
		Labels: map[string]string{}, Secrets: map[string]Secret{}, SSH: map[string]*sshagent.Source{}, Contexts: map[string]string{},
	}
	var err error
	if req.Dockerfile, err = os.ReadFile(filepath.Join(b.context, "Dockerfile")); err != nil {
		b.t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(b.context, ".dockerignore")); err == nil {
		if req.Ignore, err = dockerfile.ParseIgnore(".dockerignore", data); err != nil {
			b.t.Fatal(err)
		}
	}
	for line := range strings.Lines(options) {
		word, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		key, v, _ := strings.Cut(value, "=")
		switch word {
		case "arg":
			req.Args[key] = v
		case "label":
			req.Labels[key] = v
		case "secret":
			req.Secrets[key] = Secret{Value: []byte(v)}
		case "context":
			if !strings.Contains(v, "://") {
				v = filepath.Join(b.context, v)
			}
			req.Contexts[key] = v
		case "target":
			req.Stage = value
		case "epoch":
			seconds, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				b.t.Fatal(err)
			}
			epoch := time.Unix(seconds, 0).UTC()
			req.Epoch = &epoch
			req.Args["SOURCE_DATE_EPOCH"] = value
		case "chmod":
			mode, _ := strconv.ParseUint(key, 8, 32)
			if err := os.Chmod(filepath.Join(b.context, v), os.FileMode(mode)); err != nil {
				b.t.Fatal(err)
			}
		case "check":
			b.onlyCheck = true
		case "tar":
			b.command("tar", "-C", v, "--sort=name", "--owner=7", "--group=8", "--numeric-owner", "--mtime=@1000000000", "-caf", key, ".")
		case "gzip":
			b.command("sh", "-c", "gzip -nc "+v+" > "+key)
		case "base": // another Dockerfile, built first, as an image of that name
			b.base(key, v)
		default:
			b.t.Fatalf("unknown option %q", line)
		}
	}
	return req
}

// command runs a program of this machine in the context.
func (b *bench) command(name string, args ...string) {
	b.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = b.context
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("%s: %v: %s", name, err, out)
	}
}

// base builds a Dockerfile of the context and tags the image.
func (b *bench) base(ref, file string) {
	b.t.Helper()
	req := b.request("")
	var err error
	if req.Dockerfile, err = os.ReadFile(filepath.Join(b.context, file)); err != nil {
		b.t.Fatal(err)
	}
	req.Ignore = nil
	results := b.build(req)
	b.tag(results, ref)
	if layers := results[0].Image.Layers; len(layers) > 0 && b.lowest == nil {
		b.lowest = layers[0]
		maps.Copy(b.bases, flatten(b.t, results[0]))
	}
	b.log.warnings, b.log.output = nil, nil
}

func (b *bench) build(req Request) []Result {
	b.t.Helper()
	results, err := b.Build(context.Background(), req)
	if err != nil {
		b.t.Fatal(b.describe(err))
	}
	return results
}

func (b *bench) tag(results []Result, typed string) {
	b.t.Helper()
	ref, err := oci.ParseRef(typed)
	if err == nil {
		err = b.Tag(results, []Tag{{Ref: ref, Typed: typed}})
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// describe is an error as the corpus has it: message, lines, the command's last words.
func (b *bench) describe(err error) string {
	text := err.Error() + "\n"
	var line *dockerfile.Error
	if errors.As(err, &line) {
		text += strings.Join(line.Excerpt(), "\n") + "\n"
	}
	var command *CommandError
	if errors.As(err, &command) {
		for _, l := range command.Tail {
			text += "| " + l + "\n"
		}
	}
	return strings.ReplaceAll(text, b.context, "CONTEXT")
}

// recorder keeps what a build says.
type recorder struct {
	report.Reporter
	infos, warnings, output []string
}

func (r *recorder) Infof(format string, args ...any) {
	r.infos = append(r.infos, fmt.Sprintf(format, args...))
}

func (r *recorder) Warnf(format string, args ...any) {
	r.warnings = append(r.warnings, fmt.Sprintf(format, args...))
}

// configOf is the image's config without times, as readable JSON.
func configOf(t *testing.T, r Result) string {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal(r.Record.Config, &doc); err != nil {
		t.Fatal(err)
	}
	delete(doc, "created")
	delete(doc, "rootfs")
	history, _ := doc["history"].([]any)
	var lines []any
	for _, h := range history {
		h := h.(map[string]any)
		line := fmt.Sprint(h["created_by"])
		if h["empty_layer"] == true {
			line = "(" + line + ")"
		}
		lines = append(lines, line)
	}
	doc["history"] = lines
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(doc); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// listFiles lists the image's files, without those that a base of the bench brought.
func (b *bench) listFiles(r Result) string {
	found := flatten(b.t, r)
	lines, bases := map[string]string{}, b.bases
	if layers := r.Image.Layers; len(layers) == 0 || b.lowest == nil || layers[0].Descriptor().Digest != b.lowest.Descriptor().Digest {
		bases = nil
	}
	for name, text := range found {
		if bases[name] != text {
			lines[name] = text
		}
	}
	for name := range bases {
		if _, ok := found[name]; !ok {
			lines[name] = "is gone"
		}
	}
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		out.WriteString(name + " " + lines[name] + "\n")
	}
	return out.String()
}

// flatten puts the layers on one another.
func flatten(t *testing.T, r Result) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, blob := range r.Image.Layers {
		eachEntry(t, blob, func(h *tar.Header, content []byte) {
			name := path.Clean("/" + h.Name)
			dir, base := path.Split(name)
			if hidden, isWhiteout := strings.CutPrefix(base, ".wh."); isWhiteout {
				gone := dir + hidden
				if base == ".wh..wh..opq" {
					gone = strings.TrimSuffix(dir, "/")
				}
				maps.DeleteFunc(found, func(known, _ string) bool {
					return known == gone && base != ".wh..wh..opq" || strings.HasPrefix(known, gone+"/")
				})
				return
			}
			found[name] = describeEntry(h, content)
		})
	}
	return found
}

func describeEntry(h *tar.Header, content []byte) string {
	text := fmt.Sprintf("%04o %d:%d", h.Mode, h.Uid, h.Gid)
	switch h.Typeflag {
	case tar.TypeDir:
		return text + " dir"
	case tar.TypeSymlink:
		return "-> " + h.Linkname
	case tar.TypeLink:
		return "= /" + h.Linkname
	}
	if len(content) > 200 {
		return fmt.Sprintf("%s %s", text, "(large)")
	}
	return fmt.Sprintf("%s %q", text, content)
}

func eachEntry(t *testing.T, blob image.Blob, do func(*tar.Header, []byte)) {
	t.Helper()
	r, err := blob.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	z, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	entries := tar.NewReader(z)
	for {
		h, err := entries.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(entries)
		if err != nil {
			t.Fatal(err)
		}
		do(h, content)
	}
}
