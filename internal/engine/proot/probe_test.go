package proot

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"proot-distro/internal/report"
)

// countingProot is a proot that notes each of its runs in a file.
func countingProot(t *testing.T) (bin string, runs func() int) {
	t.Helper()
	real, err := find(hostAt("", os.Getenv))
	if err != nil {
		t.Fatalf("these tests need Debian's package proot: %v", err)
	}
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	bin = filepath.Join(dir, "proot")
	script := "#!/bin/sh\necho run >>" + log + "\nexec " + real + ` "$@"` + "\n"
	must(t, os.WriteFile(bin, []byte(script), 0o755))
	return bin, func() int {
		text, _ := os.ReadFile(log) // missing before the first run
		return strings.Count(string(text), "run")
	}
}

func TestProbeIsRemembered(t *testing.T) {
	bin, runs := countingProot(t)
	h := hostAt(t.TempDir(), getenvOf(map[string]string{"PD_PROOT_BIN": bin}))
	start := func() *Engine {
		t.Helper()
		e, err := New(Config{Host: h, Reporter: report.Discard})
		must(t, err)
		return e
	}
	first := start()
	probing := runs()
	if probing == 0 {
		t.Fatal("proot was never run")
	}
	if second := start(); runs() != probing || !slices.Equal(first.probe.Escaping, second.probe.Escaping) {
		t.Errorf("%d runs after a second start, want %d", runs(), probing)
	}
	files, err := filepath.Glob(filepath.Join(h.Dirs.Probes(), "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("probe files %q, %v", files, err)
	}
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	must(t, os.WriteFile(elsewhere, []byte("precious"), 0o600))
	damages := map[string]func() error{
		"garbage":   func() error { return os.WriteFile(files[0], []byte("{"), 0o644) },
		"too large": func() error { return os.WriteFile(files[0], make([]byte, maxProbe+1), 0o644) },
		"a link":    func() error { return errors.Join(os.Remove(files[0]), os.Symlink(elsewhere, files[0])) },
		"a touched binary": func() error {
			text, err := os.ReadFile(bin)
			return errors.Join(err, os.WriteFile(bin, append(text, '\n'), 0o755))
		},
	}
	for name, damage := range damages {
		must(t, damage())
		before := runs()
		start()
		if runs() == before {
			t.Errorf("%s: proot was not probed anew", name)
		}
		before = runs()
		start()
		if runs() != before {
			t.Errorf("%s: the new probe was not remembered", name)
		}
	}
	if text, _ := os.ReadFile(elsewhere); string(text) != "precious" {
		t.Error("a link in place of the file was written through")
	}
}

func TestLeakIsReportedOnce(t *testing.T) {
	bin, _ := countingProot(t)
	h := hostAt(t.TempDir(), getenvOf(map[string]string{"PD_PROOT_BIN": bin}))
	id, err := identify(bin)
	must(t, err)
	memory{h.Dirs}.remember(id, probe{Version: "5.1.0", Escaping: []string{"statx"}})
	rec := &recorder{Reporter: report.Discard}
	for range 2 {
		e, err := New(Config{Host: h, Reporter: rec})
		must(t, err)
		p, err := e.Prepare(newSpec(t.TempDir(), "/bin/sh"))
		must(t, err)
		if filter := p.(*Process).filter; filter != nil {
			t.Errorf("%d instructions for a kernel without filters", len(filter))
		}
	}
	if len(rec.warnings) != 1 || !strings.Contains(rec.warnings[0], "PD_PROOT_BIN") {
		t.Errorf("warnings %q, want one that names a fix", rec.warnings)
	}
}

func TestNotAProot(t *testing.T) {
	h := hostAt(t.TempDir(), getenvOf(map[string]string{"PD_PROOT_BIN": "/bin/busybox"}))
	_, err := New(Config{Host: h, Reporter: report.Discard})
	wantContains(t, err, "/bin/busybox", "does not look like proot")
}

func TestParseHelp(t *testing.T) {
	text := "Regular options:\n  -r *path*, --rootfs=*path*\n\tUse *path* as -x\n  -p\n  --kill-on-exit\n   -no\n"
	want := []string{"-r path", "--rootfs=path", "-p", "--kill-on-exit"}
	if got := parseHelp(text); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]string{
		"|__|  |__|__\\_____/ 5.1.0\n\nbuilt-in accelerators": "5.1.0",
		"proot v5.4.0-5f780cba\n":                             "5.4.0-5f780cba",
		"5.1.107.65":                                          "5.1.107.65",
		"\\____|\n":                                           "of unknown version",
	} {
		if got := parseVersion(text); got != want {
			t.Errorf("parseVersion(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "proot")
	must(t, os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755))
	plain := filepath.Join(dir, "plain")
	must(t, os.WriteFile(plain, nil, 0o644))
	tests := []struct {
		name, bin, path string
		want            string
		parts           []string // of the error
	}{
		{"PATH", "", "/nowhere:" + dir, program, nil},
		{"relative PATH is not searched", "", ".", "", []string{"not installed"}},
		{"named", program, "", program, nil},
		{"named, missing", filepath.Join(dir, "gone"), dir, "", []string{"PD_PROOT_BIN", "gone", "does not exist"}},
		{"named, a directory", dir, dir, "", []string{"PD_PROOT_BIN", dir, "not a program"}},
		{"named, not executable", plain, dir, "", []string{"PD_PROOT_BIN", plain, "not executable"}},
		{"none", "", "/nowhere", "", []string{"proot is not installed", "PD_PROOT_BIN"}},
	}
	for _, tt := range tests {
		got, err := find(hostAt(dir, getenvOf(map[string]string{"PD_PROOT_BIN": tt.bin, "PATH": tt.path})))
		if tt.parts == nil {
			if err != nil || got != tt.want {
				t.Errorf("%s: %q, %v", tt.name, got, err)
			}
			continue
		}
		wantContains(t, err, tt.parts...)
		if missing := errors.As(err, new(*NotFoundError)); missing != (tt.bin == "") {
			t.Errorf("%s: NotFoundError %v", tt.name, missing)
		}
	}
}

// TestNested runs this test program inside proot.
func TestNested(t *testing.T) {
	if TracedByProot() {
		t.Fatal("these tests cannot run inside proot")
	}
	self, err := os.Executable()
	must(t, err)
	e := newEngine(t, nil)
	s := newSpec("/", self)
	s.Env = append(s.Env, execVar+"={}")
	if out, status := runSpec(t, e, s); status != 99 || !strings.Contains(out, ErrNested.Error()) {
		t.Errorf("status %d: %s", status, out)
	}
}
