package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/internal/container"
	"proot-distro/internal/host"
	"proot-distro/internal/image"
	"proot-distro/internal/platform"
)

func config(h *host.Host) Config {
	return Config{Host: h, Store: container.NewStore(h.Dirs), Cache: image.OpenCache(h.Dirs), Program: "pd", Version: "test", Engine: EngineAuto}
}

// here is this machine, with a home directory in which nothing is.
func here(t *testing.T) *host.Host {
	t.Helper()
	home := t.TempDir()
	env := host.SystemEnv()
	getenv := env.Getenv
	env.Getenv = func(name string) string {
		if name == "PATH" {
			return getenv(name)
		}
		return map[string]string{"HOME": home}[name]
	}
	t.Setenv("TMPDIR", filepath.Join(home))
	h, err := host.Detect(env)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestExamineChangesNothing(t *testing.T) {
	h := here(t)
	begun := time.Now()
	r := Examine(context.Background(), config(h))
	t.Logf("took %s", time.Since(begun))
	if !r.Usable || r.Engine == "" {
		t.Errorf("usable %v, engine %q: these tests need proot or namespaces", r.Usable, r.Engine)
	}
	var left []string
	err := filepath.WalkDir(h.Home, func(path string, _ fs.DirEntry, err error) error {
		left = append(left, path)
		return err
	})
	if err != nil || len(left) != 1 {
		t.Errorf("%q is left, %v", left, err)
	}
}

func TestTinyProgram(t *testing.T) {
	dir := t.TempDir()
	if err := runTiny(dir, "", platform.Binary()); err != nil {
		t.Error(err)
	}
	for _, arch := range platform.All() {
		emulator, err := exec.LookPath(arch.Qemu() + "-static")
		if err != nil {
			t.Fatalf("these tests need Debian's package qemu-user-static: %v", err)
		}
		if err := runTiny(dir, emulator, arch); err != nil {
			t.Errorf("%s: %v", arch, err)
		}
		if !isStatic(emulator) {
			t.Errorf("%s is not static", emulator)
		}
	}
	if isStatic("/bin/sh") || isStatic(dir) {
		t.Error("a shell is static")
	}
	if err := runTiny(dir, "/bin/false", platform.ARM); err == nil {
		t.Error("false(1) emulates")
	}
	if err := runTiny(filepath.Join(dir, "missing"), "", platform.Binary()); !errors.Is(err, unix.ENOENT) {
		t.Errorf("no directory: %v", err)
	}
}

func TestPlaces(t *testing.T) {
	h := here(t)
	f := lookAtPlace(h, "state", h.Dirs.Runtime)
	if f.err != nil || f.Exists || !f.Writable || !f.Programs || !f.HardLinks || !f.SymLinks || !f.Modes || !f.CaseCounts || f.Free == 0 || f.FileSystem == "" {
		t.Errorf("%+v", f)
	}
	must(t, os.MkdirAll(h.Dirs.Runtime, 0o700))
	if f := lookAtPlace(h, "state", h.Dirs.Runtime); f.err != nil || !f.Exists {
		t.Errorf("%+v", f)
	}
	if os.Getuid() != 0 {
		must(t, os.Chmod(h.Dirs.Runtime, 0o500))
		if f := lookAtPlace(h, "state", h.Dirs.Runtime); !errors.Is(f.err, fs.ErrPermission) || f.Writable {
			t.Errorf("a directory that is not writable: %+v", f)
		}
	}
	must(t, errors.Join(os.RemoveAll(h.Dirs.Runtime), os.WriteFile(h.Dirs.Runtime, nil, 0o600)))
	if f := lookAtPlace(h, "state", h.Dirs.Runtime); f.err == nil {
		t.Errorf("a file: %+v", f)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCredentials(t *testing.T) {
	bin := t.TempDir()
	must(t, os.WriteFile(filepath.Join(bin, "docker-credential-there"), []byte("#!/bin/sh\n"), 0o755))
	t.Setenv("PATH", bin)
	for name, tc := range map[string]struct {
		content, auth string
		mode          fs.FileMode
		status        Status
		text          string
	}{
		"none":            {"", "", 0, OK, "anonymously"},
		"variable":        {"", "a:b", 0, OK, "PD_DOCKER_AUTH is used"},
		"bad variable":    {"", "ab", 0, Problem, "no colon"},
		"file":            {`{"auths":{}}`, "", 0o600, OK, "config.json is used"},
		"for all to read": {`{"auths":{}}`, "", 0o644, Note, "other users"},
		"helper":          {`{"credsStore":"there"}`, "", 0o644, OK, "is used"},
		"no helper":       {`{"credHelpers":{"ghcr.io":"gone","quay.io":"there"}}`, "", 0o644, Problem, "names docker-credential-gone, which"},
		"no JSON":         {`{"auths":`, "", 0o600, Problem, "cannot be used"},
		"a directory":     {"/", "", 0o700, Problem, "no file of a usual size"},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, ".docker/config.json")
		must(t, os.Mkdir(filepath.Dir(file), 0o700))
		switch tc.content {
		case "":
		case "/":
			must(t, os.Mkdir(file, tc.mode))
		default:
			must(t, os.WriteFile(file, []byte(tc.content), tc.mode))
		}
		c := Config{Host: &host.Host{Getenv: func(name string) string { return map[string]string{"HOME": dir}[name] }}}
		c.Auth.UserPass = tc.auth
		f := machine{credentials: lookAtCredentials(c)}.judgeCredentials()[0]
		if f.Status != tc.status || !strings.Contains(f.Text, tc.text) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestCredentialFiles(t *testing.T) {
	vars := map[string]string{"HOME": "/h", "REGISTRY_AUTH_FILE": "/r.json", "XDG_RUNTIME_DIR": "/run/u"}
	getenv := func(name string) string { return vars[name] }
	if got := credentialFiles(getenv); !slices.Equal(got, []string{"/h/.docker/config.json", "/r.json", "/run/u/containers/auth.json"}) {
		t.Error(got)
	}
	vars["DOCKER_CONFIG"] = "/d"
	if got := credentialFiles(getenv); got[0] != "/d/config.json" {
		t.Error(got)
	}
}

func TestRootIsMount(t *testing.T) {
	for text, want := range map[string]bool{
		"": false,
		"22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n23 22 0:5 / /dev rw - devtmpfs udev rw\n": true,
		"23 22 0:5 / /proc rw - proc proc rw\n":                                                  false,
	} {
		if got := rootIsMount([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestAndroid(t *testing.T) {
	for name, tc := range map[string]struct {
		properties string
		storage    bool
		want       string
	}{
		"silent":  {"", false, "- 0 false unknown"},
		"old":     {"[ro.build.version.release]: [11]\n[ro.build.version.sdk]: [30]\n", true, "11 30 true false"},
		"new":     {"[ro.build.version.release]: [14]\r\n[ro.build.version.sdk]: [34]\r\n", true, "14 34 true unknown"},
		"allowed": {"[ro.build.version.sdk]: [34]\n[persist.sys.fflag.override.settings_enable_monitor_phantom_procs]: [false]\n", true, "- 34 true false"},
		"killed":  {"[ro.build.version.sdk]: [34]\n[persist.sys.fflag.override.settings_enable_monitor_phantom_procs]: [true]\n", true, "- 34 true true"},
	} {
		root := t.TempDir()
		if tc.storage {
			must(t, os.MkdirAll(filepath.Join(root, "storage/emulated/0"), 0o755))
		}
		if tc.properties != "" {
			must(t, os.MkdirAll(filepath.Join(root, "system/bin"), 0o755))
			must(t, os.WriteFile(filepath.Join(root, "system/bin/getprop"), []byte("#!/bin/sh\ncat <<'END'\n"+tc.properties+"END\n"), 0o755))
		}
		f := lookAtAndroid(&host.Host{Root: root})
		killer := "unknown"
		if f.PhantomKiller != nil {
			killer = fmt.Sprint(*f.PhantomKiller)
		}
		if got := fmt.Sprint(cmp.Or(f.Release, "-"), " ", f.SDK, " ", f.Storage, " ", killer); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

func TestAppArmorProfile(t *testing.T) {
	got := AppArmorProfile("pd", `/opt/my tools/pd-{x}*"\1`)
	for _, part := range []string{
		"profile proot-distro \"/opt/my tools/pd-\\{x\\}\\*\\\"\\\\1\" flags=(unconfined) {\n", "  userns,\n",
		"pd doctor --apparmor-profile | sudo tee /etc/apparmor.d/proot-distro", "sudo apparmor_parser -r",
	} {
		if !strings.Contains(got, part) {
			t.Errorf("no %q in\n%s", part, got)
		}
	}
}
