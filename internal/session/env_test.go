package session

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"proot-distro/internal/guest"
)

func TestEnvironment(t *testing.T) {
	user := guest.User{Name: "ann", Home: "/home/ann"}
	base := []string{"PATH=" + defaultPath, "MOZ_FAKE_NO_SANDBOX=1"}
	session := []string{"HOME=/home/ann", "USER=ann", "TERM=vt100"}
	all := func(parts ...[]string) []string { return slices.Concat(parts...) }
	for _, tc := range []struct {
		name    string
		image   []string
		wishes  []string
		want    []string
		warning string
		err     string
	}{
		{"nothing", nil, nil, all(base, session), "", ""},
		{"image over defaults", []string{"PATH=/go/bin:/bin", "A=1", "A=2"}, nil,
			all([]string{"PATH=/go/bin:/bin", "MOZ_FAKE_NO_SANDBOX=1", "A=2"}, session), "", ""},
		{"wishes over image", []string{"A=image", "B=image"}, []string{"A=mine", "PATH=/x", "MOZ_FAKE_NO_SANDBOX=0"},
			all([]string{"PATH=/x", "MOZ_FAKE_NO_SANDBOX=0", "A=mine", "B=image"}, session), "", ""},
		{"image may not", []string{
			"MOZ_FAKE_NO_SANDBOX=0", "PULSE_SERVER=x", "TERM=dumb", "COLORTERM=1", "HOME=/x", "USER=x", "ANDROID_ROOT=/x", "BOOTCLASSPATH=x",
			"LD_PRELOAD=/evil.so", "LD_AUDIT=x", "PROOT_NO_SECCOMP=1", "novalue", "=x", "A=nul\x00", "N\x00=x", "GOOD=1",
		}, nil, all(base, []string{"GOOD=1"}, session), "", ""},
		{"values", nil, []string{"EMPTY=", "EQ=a=b", "FROM_HOST", "NOT_ON_HOST", "NL=a\nb"},
			all(base, []string{"EMPTY=", "EQ=a=b", "FROM_HOST=yes", "NL=a\nb"}, session), "", ""},
		{"session wins", nil, []string{"HOME=/x"}, all(base, session), "--env HOME has no effect", ""},
		{"loader", nil, []string{"LD_LIBRARY_PATH=/x"}, all(base, []string{"LD_LIBRARY_PATH=/x"}, session), "", ""},
		{"no name", nil, []string{"=x"}, nil, "", `--env "=x": write VAR=VALUE`},
		{"empty", nil, []string{""}, nil, "", `--env "": write VAR=VALUE`},
		{"NUL", nil, []string{"A=\x00"}, nil, "", "write VAR=VALUE"},
		{"proot's", nil, []string{"PROOT_NO_SECCOMP=1"}, nil, "",
			"--env PROOT_NO_SECCOMP: PROOT_* variables steer proot itself; write PROOT_NO_SECCOMP=… in front"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, w := newSession(t, &v1.ImageConfig{Env: tc.image}, nil)
			got, err := s.environment(Options{Env: tc.wishes}, user)
			if !check(t, err, tc.err) {
				return
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if got := strings.Join(w.lines, "\n"); (got == "") != (tc.warning == "") || !strings.Contains(got, tc.warning) {
				t.Errorf("warned %q, want %q", got, tc.warning)
			}
		})
	}
}

func TestTerminalVariables(t *testing.T) {
	s, _ := newSession(t, nil, nil)
	for _, tc := range []struct{ term, color, wantTerm, wantColor string }{
		{"", "", "xterm-256color", ""},
		{"screen", "truecolor", "screen", "truecolor"},
	} {
		s.host.Getenv = func(key string) string { return map[string]string{"TERM": tc.term, "COLORTERM": tc.color}[key] }
		env, err := s.environment(Options{}, guest.User{})
		if err != nil || variable(env, "TERM") != tc.wantTerm || variable(env, "COLORTERM") != tc.wantColor {
			t.Errorf("%+v: %v %q", tc, err, env)
		}
	}
}

// TestHugeImageEnvironment would take minutes if setting were quadratic.
func TestHugeImageEnvironment(t *testing.T) {
	image := make([]string, 200_000)
	for i := range image {
		image[i] = "V" + strconv.Itoa(i) + "=x"
	}
	s, _ := newSession(t, nil, nil)
	s.image = &v1.Image{Config: v1.ImageConfig{Env: image}}
	start := time.Now()
	if env, err := s.environment(Options{}, guest.User{}); err != nil || len(env) < len(image) {
		t.Fatal(len(env), err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

// shells are those of this machine; sh is always one of them.
func shells(t *testing.T) [][]string {
	t.Helper()
	var found [][]string
	for _, argv := range [][]string{{"sh"}, {"bash"}, {"bash", "--posix"}, {"dash"}, {"busybox", "sh"}, {"zsh", "-f"}, {"mksh"}} {
		if _, err := exec.LookPath(argv[0]); err == nil {
			found = append(found, argv)
		}
	}
	if len(found) == 0 {
		t.Fatal("no shell on this machine")
	}
	return found
}

func shell(t *testing.T, argv []string, env []string, script string) string {
	t.Helper()
	cmd := exec.Command(argv[0], append(slices.Clone(argv[1:]), "-c", script)...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v: %s", argv, err, out)
	}
	return string(out)
}

func TestQuoteSurvivesShells(t *testing.T) {
	words := []string{
		"plain", "", "a b", "it's", `back\slash`, "$HOME", "`id`", "*", "~", "a\nb", "-n", `"q"`, "!x", "#c", "é", "A=b c", "x=1", "'",
	}
	want := strings.Join(words, "|") + "|"
	for _, argv := range shells(t) {
		if got := shell(t, argv, nil, "printf '%s|' "+quoteAll(words)); got != want {
			t.Errorf("%q: got %q, want %q", argv, got, want)
		}
		if got := shell(t, argv, []string{"PATH=/usr/bin:/bin"}, quoteAll([]string{"A=it's", "sh", "-c", `printf %s "$A"`})); got != "it's" {
			t.Errorf("%q: assignment in front gave %q", argv, got)
		}
	}
}

// TestProfileInShells sources the snippet after a profile that reset PATH.
func TestProfileInShells(t *testing.T) {
	hostile := `a'b$(touch /tmp/pwned)"; exit 7 #`
	snippet := profile([]string{
		"PATH=/go/bin:/o'dd dir:/usr/local/bin:/usr/bin:.::/opt/late", "A=1", "B=" + hostile, "NL=x\ny", "EMPTY=",
		"HOME=/evil", "TERM=evil", "UID=5", "SHELLOPTS=x", "LD_PRELOAD=x", "PROOT_X=x", "BAD NAME;=x", "1X=x", "dot.ted=x",
	})
	file := filepath.Join(t.TempDir(), "p.sh")
	if err := os.WriteFile(file, []byte(snippet), 0o644); err != nil {
		t.Fatal(err)
	}
	env := []string{"HOME=/home", "TERM=vt100"}
	for _, argv := range shells(t) {
		got := shell(t, argv, env, "PATH=/usr/local/sbin:/usr/bin:/games; . "+file+"; . "+file+
			`; printf '%s|' "$PATH" "$A" "$B" "$NL" "${EMPTY-unset}" "$HOME" "$TERM" "$LD_PRELOAD"`)
		want := strings.Join([]string{
			"/go/bin:/o'dd dir:/usr/local/sbin:/usr/bin:/games:/usr/local/bin:/opt/late", "1", hostile, "x\ny", "", "/home", "vt100", "", "",
		}, "|")
		if got != want {
			t.Errorf("%q:\n got %q\nwant %q", argv, got, want)
		}
	}
}

func TestWriteProfile(t *testing.T) {
	env := []string{"PATH=/go/bin", "A=1"}
	read := func(s *Session, name string) (string, os.FileMode) {
		data, _ := os.ReadFile(filepath.Join(s.rootfsPath, name))
		info, err := os.Lstat(filepath.Join(s.rootfsPath, name))
		if err != nil {
			return "", 0
		}
		return string(data), info.Mode()
	}
	t.Run("written, legacy removed", func(t *testing.T) {
		s, _ := newSession(t, nil, map[string]string{legacyProfile: "old", profileName: "→../../bin/bash"})
		if err := writeProfile(s.root, env); err != nil {
			t.Fatal(err)
		}
		if got, mode := read(s, profileName); got != profile(env) || mode != 0o644 {
			t.Errorf("%v %q", mode, got)
		}
		if _, mode := read(s, legacyProfile); mode != 0 {
			t.Error("the legacy file is still there")
		}
	})
	t.Run("left alone when right", func(t *testing.T) {
		s, _ := newSession(t, nil, map[string]string{profileName: profile(env)})
		before, _ := os.Stat(filepath.Join(s.rootfsPath, profileName))
		if err := writeProfile(s.root, env); err != nil {
			t.Fatal(err)
		}
		if after, _ := os.Stat(filepath.Join(s.rootfsPath, profileName)); !os.SameFile(before, after) {
			t.Error("rewritten")
		}
	})
	t.Run("no profile.d", func(t *testing.T) {
		s, _ := newSession(t, nil, nil)
		if err := writeProfile(s.root, env); err != nil {
			t.Fatal(err)
		}
		if _, mode := read(s, profileName); mode != 0 {
			t.Error("written")
		}
	})
	t.Run("cannot be written", func(t *testing.T) {
		s, w := newSession(t, nil, map[string]string{profileName: ""}) // a directory
		spec, err := s.Login(Options{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Prepare(spec); err != nil || len(w.lines) != 1 {
			t.Errorf("%v, warned %q", err, w.lines)
		}
	})
}
