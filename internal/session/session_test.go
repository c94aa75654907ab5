package session

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"proot-distro/internal/container"
	"proot-distro/internal/engine"
	"proot-distro/internal/guest"
	"proot-distro/internal/host"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

// warnings is a reporter that keeps what it is warned of.
type warnings struct {
	report.Reporter
	lines []string
}

func (w *warnings) Warnf(format string, args ...any) {
	w.lines = append(w.lines, fmt.Sprintf(format, args...))
}

// program is a static ELF program without code.
func program(machine elf.Machine) string {
	var b bytes.Buffer
	header := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Phoff: 64, Phentsize: 56, Phnum: 1}
	copy(header.Ident[:], []byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1})
	for _, part := range []any{header, elf.Prog64{Type: uint32(elf.PT_LOAD)}} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			panic(err)
		}
	}
	return b.String()
}

const passwd = "root:x:0:0::/root:/bin/bash\nann:x:1000:1000::/home/ann:/bin/zsh\nbob:x:1001:1001::/home/bob:/bin/sh\n"

// newSession makes a small container; a file with an empty content is a directory,
// one that starts with "→" a link.
func newSession(t *testing.T, config *v1.ImageConfig, files map[string]string) (*Session, *warnings) {
	t.Helper()
	dir := t.TempDir()
	all := map[string]string{
		"bin/bash": program(elf.EM_X86_64), "bin/sh": "→bash", "bin/zsh": program(elf.EM_X86_64),
		"usr/bin/env": program(elf.EM_X86_64), "opt/app": program(elf.EM_X86_64),
		"etc/passwd": passwd, "etc/group": "root:x:0:\nadm:x:4:ann\n",
		"root": "", "home/ann": "", "srv": "",
	}
	for name, content := range files {
		all[name] = content
	}
	for name, content := range all {
		full := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(full), 0o755)
		if target, ok := strings.CutPrefix(content, "→"); ok && err == nil {
			err = os.Symlink(target, full)
		} else if content == "" && err == nil {
			err = os.MkdirAll(full, 0o755)
		} else if content != "gone" && err == nil {
			err = os.WriteFile(full, []byte(content), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := rootfs.Open(dir, rootfs.GuestLinks)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	w := &warnings{Reporter: report.Discard}
	h := &host.Host{Home: t.TempDir(), Arch: platform.X86_64, Getenv: func(key string) string {
		return map[string]string{"TERM": "vt100", "FROM_HOST": "yes"}[key]
	}}
	s := &Session{name: "box", dir: filepath.Dir(dir), rootfsPath: dir, tree: root, root: root, host: h, rep: w, linked: func() (bool, error) { return false, nil }}
	if config == nil {
		s.init(nil, fs.ErrNotExist)
	} else {
		s.init(record(t, *config), nil)
	}
	return s, w
}

func record(t *testing.T, config v1.ImageConfig) *oci.Record {
	t.Helper()
	data, err := json.Marshal(v1.Image{Platform: v1.Platform{Architecture: "amd64", OS: "linux"}, Config: config})
	if err != nil {
		t.Fatal(err)
	}
	return &oci.Record{ImageRef: "box", Arch: platform.X86_64, Config: data}
}

// check compares an error with a part of its message; "" wants none.
func check(t *testing.T, err error, want string) bool {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Fatalf("error %v, want %q", err, want)
	}
	return err == nil
}

func TestLogin(t *testing.T) {
	box := map[string]string{}
	for _, tc := range []struct {
		name    string
		files   map[string]string
		options Options
		command []string
		argv    []string
		workDir string
		warning string
		err     string
	}{
		{"shell", box, Options{}, nil, []string{"/bin/bash", "-l"}, "/root", "", ""},
		{"command", box, Options{}, []string{"bash", "-c", "echo it's > 'x y'"},
			[]string{"/bin/bash", "-l", "-c", `bash -c 'echo it'\''s > '\''x y'\'''`}, "/root", "", ""},
		{"command like an option", box, Options{}, []string{"-x", "-y"}, []string{"/bin/bash", "-l", "-c", "'-x' -y"}, "/root", "", ""},
		{"user", box, Options{User: "ann"}, nil, []string{"/bin/zsh", "-l"}, "/home/ann", "", ""},
		{"missing home", box, Options{User: "bob"}, nil, []string{"/bin/sh", "-l"}, "/",
			"/home/bob of user bob cannot be used (it does not exist)", ""},
		{"missing shell", map[string]string{"bin/zsh": "gone"}, Options{User: "ann"}, nil,
			[]string{"/bin/bash", "-l"}, "/home/ann", "(/bin/zsh) cannot be used; taking /bin/bash", ""},
		{"no shell", map[string]string{"bin/bash": "gone"}, Options{}, nil, nil, "", "", `container box: cannot run "/bin/bash": the container has no shell`},
		{"unknown user", box, Options{User: "eve"}, nil, nil, "", "", `container box: cannot use user "eve"`},
		{"work dir", box, Options{WorkDir: "/srv"}, nil, []string{"/bin/bash", "-l"}, "/srv", "", ""},
		{"work dir missing", box, Options{WorkDir: "/nope"}, nil, nil, "", "", "--work-dir /nope cannot be used in container box: it does not exist"},
		{"work dir is a file", box, Options{WorkDir: "/bin/bash"}, nil, nil, "", "", "it is not a directory"},
		{"work dir relative", box, Options{WorkDir: "srv"}, nil, nil, "", "", `--work-dir "srv": it must be an absolute path`},
		{"work dir in the host's /proc", box, Options{WorkDir: "/proc/self"}, nil,
			[]string{"/bin/bash", "-l"}, "/proc/self", "", ""},
		{"work dir is a link to outside", map[string]string{"out": "→../../../../../../usr/share"},
			Options{WorkDir: "/out"}, nil, nil, "", "", "does not exist"},
		{"work dir in a bind", box, Options{WorkDir: "/mnt/host/bin", Binds: []string{"/usr:/mnt/host"}}, nil,
			[]string{"/bin/bash", "-l"}, "/mnt/host/bin", "", ""},
		{"LD_ goes behind env", box, Options{Env: []string{"LD_PRELOAD=/x.so"}}, nil,
			[]string{"/usr/bin/env", "LD_PRELOAD=/x.so", "/bin/bash", "-l"}, "/root", "", ""},
		{"LD_ without env", map[string]string{"usr/bin/env": "gone"}, Options{Env: []string{"LD_A=1"}}, nil,
			nil, "", "", "--env LD_A=1 needs the env program"},
		{"hostname", box, Options{Hostname: "a b"}, nil, nil, "", "", `--hostname "a b"`},
		{"kernel", box, Options{Kernel: `6\1`}, nil, nil, "", "", "--kernel: a release has printable"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, w := newSession(t, nil, tc.files)
			spec, err := s.Login(tc.options, tc.command)
			if !check(t, err, tc.err) {
				return
			}
			if diff := cmp.Diff(tc.argv, spec.Argv); diff != "" {
				t.Error(diff)
			}
			if (spec.Shell == "/bin/sh") != (len(tc.command) > 0) {
				t.Errorf("supervising shell %q", spec.Shell)
			}
			if spec.WorkDir != tc.workDir {
				t.Errorf("work dir %q, want %q", spec.WorkDir, tc.workDir)
			}
			if got := strings.Join(w.lines, "\n"); (got == "") != (tc.warning == "") || !strings.Contains(got, tc.warning) {
				t.Errorf("warned %q, want %q", got, tc.warning)
			}
		})
	}
}

func TestLoginSpec(t *testing.T) {
	s, _ := newSession(t, nil, nil)
	var asked platform.Arch
	spec, err := s.Login(Options{
		User: "ann", Kernel: "6.1", Hostname: "h", RedirectPorts: true, SharedHome: true,
		FindEmulator: func(guest platform.Arch) (string, error) { asked = guest; return "/usr/bin/qemu-x86_64", nil },
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := engine.Spec{
		Container: "box", Rootfs: s.rootfsPath, Argv: []string{"/bin/zsh", "-l"}, WorkDir: "/home/ann",
		Env:      []string{"PATH=" + defaultPath, "MOZ_FAKE_NO_SANDBOX=1", "HOME=/home/ann", "USER=ann", "TERM=vt100"},
		User:     engine.User{UID: 1000, GID: 1000, Groups: []int{4}},
		Binds:    []engine.Bind{{Source: s.host.Home, Target: "/home/ann"}},
		Hostname: "h", KernelRelease: "6.1", RedirectPorts: true,
		Arch: platform.X86_64, HostArch: platform.X86_64, Emulator: "/usr/bin/qemu-x86_64",
	}
	if diff := cmp.Diff(want, spec); diff != "" {
		t.Error(diff)
	}
	if asked != platform.X86_64 {
		t.Errorf("asked for an emulator of %q", asked)
	}
}

func TestForeignArchitecture(t *testing.T) {
	arm := program(elf.EM_AARCH64)
	s, _ := newSession(t, nil, map[string]string{"bin/bash": arm, "bin/zsh": arm})
	if s.Arch() != platform.AArch64 {
		t.Fatalf("arch %s", s.Arch())
	}
	found := func(platform.Arch) (string, error) { return "/usr/bin/qemu-aarch64", nil }
	if _, err := s.Login(Options{FindEmulator: found}, nil); err != nil {
		t.Error(err)
	}
	missing := errors.New("no emulator")
	_, err := s.Login(Options{FindEmulator: func(platform.Arch) (string, error) { return "", missing }}, nil)
	if !errors.Is(err, missing) {
		t.Errorf("got %v", err)
	}
	_, err = s.Run(Options{FindEmulator: found}, []string{"/opt/app"}) // an amd64 program under an arm64 emulator
	check(t, err, "recorded")
	s, _ = newSession(t, &v1.ImageConfig{}, map[string]string{"bin/bash": arm, "bin/zsh": arm})
	_, err = s.Run(Options{FindEmulator: found}, []string{"/opt/app"})
	check(t, err, "it is made for another CPU (x86_64)")
}

// TestRunCommand is the user guide's table of Entrypoint and Cmd.
func TestRunCommand(t *testing.T) {
	both := v1.ImageConfig{Entrypoint: []string{"/opt/app", "e"}, Cmd: []string{"c"}}
	cmd := v1.ImageConfig{Cmd: []string{"env", "c"}}
	entry := v1.ImageConfig{Entrypoint: []string{"/opt/app", "e"}}
	reset := v1.ImageConfig{Entrypoint: []string{""}, Cmd: []string{"env"}}
	for _, tc := range []struct {
		name   string
		config v1.ImageConfig
		args   []string
		want   []string
		err    string
	}{
		{"both", both, nil, []string{"/opt/app", "e", "c"}, ""},
		{"both, args", both, []string{"a"}, []string{"/opt/app", "e", "a"}, ""},
		{"cmd", cmd, nil, []string{"/usr/bin/env", "c"}, ""},
		{"cmd, args", cmd, []string{"bash", "a"}, []string{"/bin/bash", "a"}, ""},
		{"entrypoint", entry, nil, []string{"/opt/app", "e"}, ""},
		{"entrypoint, args", entry, []string{"a b"}, []string{"/opt/app", "e", "a b"}, ""},
		{"neither", v1.ImageConfig{}, nil, nil, "neither Entrypoint nor Cmd"},
		{"neither, args", v1.ImageConfig{}, []string{"/bin/sh"}, []string{"/bin/sh"}, ""},
		{"empty entrypoint", reset, nil, []string{"/usr/bin/env"}, ""},
		{"missing program", v1.ImageConfig{Cmd: []string{"nginx"}}, nil, nil,
			`container box: cannot run "nginx": the container has no such program`},
		{"empty program", v1.ImageConfig{Cmd: []string{"", "x"}}, nil, nil, "its name is empty"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, _ := newSession(t, &tc.config, nil)
			spec, err := s.Run(Options{}, tc.args)
			if !check(t, err, tc.err) {
				return
			}
			if diff := cmp.Diff(tc.want, spec.Argv); diff != "" {
				t.Error(diff)
			}
			if interactive := cmp.Equal(tc.want, []string{"/bin/sh"}); (spec.Shell == "") != interactive {
				t.Errorf("supervising shell %q", spec.Shell)
			}
		})
	}
}

func TestRunImageDefaults(t *testing.T) {
	config := &v1.ImageConfig{User: "ann:adm", WorkingDir: "/var/app/x", Cmd: []string{"bash"}, Env: []string{"PATH=/bin"}}
	s, w := newSession(t, config, nil)
	spec, err := s.Run(Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if spec.User.UID != 1000 || spec.User.GID != 4 || spec.WorkDir != "/var/app/x" || variable(spec.Env, "HOME") != "/home/ann" {
		t.Errorf("spec %+v", spec)
	}
	working := filepath.Join(s.rootfsPath, "var/app/x")
	if _, err := os.Stat(working); err == nil {
		t.Error("Run wrote to the container")
	}
	if err := s.Prepare(spec); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(working); err != nil || !info.IsDir() {
		t.Errorf("working directory: %v", err)
	}
	spec, err = s.Run(Options{User: "root", WorkDir: "/srv"}, nil)
	if err != nil || spec.User.UID != 0 || spec.WorkDir != "/srv" {
		t.Errorf("with options: %v %+v", err, spec)
	}
	if spec, err = s.Login(Options{}, nil); err != nil || spec.User.UID != 0 {
		t.Errorf("login takes the image's user: %v %+v", err, spec.User)
	}
	if len(w.lines) > 0 {
		t.Errorf("warned %q", w.lines)
	}
	config = &v1.ImageConfig{User: "nginx", WorkingDir: "/opt/app/x", Cmd: []string{"bash"}}
	s, _ = newSession(t, config, nil)
	_, err = s.Run(Options{}, nil)
	check(t, err, `cannot use user "nginx": there is no user nginx in the container's /etc/passwd`)
	_, err = s.Run(Options{User: "0"}, nil)
	check(t, err, "the image's working directory /opt/app/x cannot be used: not a directory")
}

func TestBadRecord(t *testing.T) {
	s, w := newSession(t, nil, nil)
	_, err := s.Run(Options{}, []string{"bash"})
	if !errors.Is(err, ErrNoManifest) {
		t.Errorf("got %v", err)
	}
	s.init(nil, errors.New("manifest.json is damaged"))
	_, err = s.Run(Options{}, []string{"bash"})
	check(t, err, "read manifest of container box: manifest.json is damaged")
	if _, err := s.Login(Options{}, nil); err != nil || len(w.lines) != 1 {
		t.Errorf("login: %v, warned %q", err, w.lines)
	}
}

func TestHostilePasswd(t *testing.T) {
	s, _ := newSession(t, nil, map[string]string{"etc/passwd": "gone", "etc/group": "gone"})
	if err := unix.Mkfifo(filepath.Join(s.rootfsPath, "etc/passwd"), 0o644); err != nil {
		t.Fatal(err)
	}
	if spec, err := s.Login(Options{}, nil); err != nil || spec.WorkDir != "/root" {
		t.Errorf("root: %v %+v", err, spec)
	}
	_, err := s.Login(Options{User: "ann"}, nil)
	check(t, err, "/etc/passwd cannot be read")
	var userErr *guest.UserError
	if !errors.As(err, &userErr) {
		t.Errorf("got %T", err)
	}
}

// TestOpen goes through the real store.
func TestOpen(t *testing.T) {
	dirs := host.Dirs{Runtime: t.TempDir(), Cache: t.TempDir()}
	c, err := container.NewStore(dirs).Create("box", "install")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := os.MkdirAll(filepath.Join(c.RootfsPath(), "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.RootfsPath(), "bin/sh"), []byte(program(elf.EM_RISCV)), 0o755); err != nil {
		t.Fatal(err)
	}
	h := &host.Host{Arch: platform.X86_64, Getenv: func(string) string { return "" }}
	s, err := Open(c, h, report.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Arch() != platform.RISCV64 || s.name != "box" || s.rootfsPath != c.RootfsPath() || !errors.Is(s.recordErr, fs.ErrNotExist) {
		t.Errorf("session %+v", s)
	}
}

// TestExec composes a command beside a session that runs already.
func TestExec(t *testing.T) {
	s, _ := newSession(t, &v1.ImageConfig{Env: []string{"PATH=/bin", "A=image"}}, map[string]string{"etc/group": "root:x:0:\nusers:x:100:\n"})
	running, err := s.Login(Options{
		User: "ann:users", WorkDir: "/srv", Env: []string{"A=session", "B=session"}, Hostname: "host", Kernel: "5.4", RedirectPorts: true,
		Binds: []string{s.host.Home + ":/mnt"}, ReadOnly: true,
	}, []string{"sleep", "9"})
	check(t, err, "")
	// It travels through a file.
	data, err := json.Marshal(running)
	check(t, err, "")
	var setup engine.Spec
	check(t, json.Unmarshal(data, &setup), "")

	spec, err := s.Exec(Options{Env: []string{"B=mine"}}, []string{"app", "x"}, setup)
	check(t, err, "")
	want := running
	want.Argv, want.Shell = []string{"app", "x"}, running.Shell
	want.Env = append([]string{}, running.Env...)
	for i, entry := range want.Env {
		if entry == "B=session" {
			want.Env[i] = "B=mine"
		}
	}
	if diff := cmp.Diff(want, spec); diff != "" {
		t.Errorf("as the session: %s", diff)
	}
	spec, err = s.Exec(Options{User: "bob", WorkDir: "/opt"}, []string{"app"}, setup)
	check(t, err, "")
	if spec.User.UID != 1001 || spec.User.GID != 1001 || spec.WorkDir != "/opt" || spec.Hostname != "host" ||
		variable(spec.Env, "HOME") != "/home/bob" || variable(spec.Env, "USER") != "bob" || variable(spec.Env, "A") != "session" {
		t.Errorf("as bob: %+v", spec)
	}
	_, err = s.Exec(Options{User: "nobody"}, []string{"app"}, setup)
	check(t, err, "no user nobody")
	_, err = s.Exec(Options{WorkDir: "opt"}, []string{"app"}, setup)
	check(t, err, "absolute path")

	setup.Env = []string{"PATH=/opt:/bin"}
	spec, err = s.Exec(Options{}, []string{"app"}, setup)
	check(t, err, "")
	spec, err = s.Locate(spec)
	check(t, err, "")
	if diff := cmp.Diff([]string{"/opt/app"}, spec.Argv); diff != "" {
		t.Error(diff)
	}
	spec.Argv = []string{"missing"}
	_, err = s.Locate(spec)
	check(t, err, "missing")
}
