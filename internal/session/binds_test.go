package session

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proot-distro/internal/engine"
	"proot-distro/internal/guest"
)

func TestBinds(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	sub := filepath.Join(dir, "sub")
	for _, tc := range []struct {
		name     string
		wishes   []string
		want     []engine.Bind
		warnings string // parts, separated by |
		err      string
	}{
		{"source only", []string{sub}, []engine.Bind{{Source: sub, Target: sub}}, "", ""},
		{"relative source", []string{"sub:/mnt/"}, []engine.Bind{{Source: sub, Target: "/mnt"}}, "", ""},
		{"dot", []string{".:/a/../b"}, []engine.Bind{{Source: dir, Target: "/b"}}, "", ""},
		{"read-only", []string{"sub:/m:ro", "sub:ro", "sub:/w:rw"}, []engine.Bind{
			{Source: sub, Target: "/m", ReadOnly: true}, {Source: sub, Target: sub, ReadOnly: true}, {Source: sub, Target: "/w"},
		}, "", ""},
		{"twice", []string{"sub:/m", ".:/m"},
			[]engine.Bind{{Source: sub, Target: "/m"}, {Source: dir, Target: "/m"}}, "hides another bind (/m)", ""},
		{"parent after child", []string{"sub:/m/n", ".:/m"},
			[]engine.Bind{{Source: sub, Target: "/m/n"}, {Source: dir, Target: "/m"}}, "(/m/n)", ""},
		{"child after parent", []string{"sub:/m", ".:/m/n"},
			[]engine.Bind{{Source: sub, Target: "/m"}, {Source: dir, Target: "/m/n"}}, "", ""},
		{"engine's own", []string{"sub:/dev"}, []engine.Bind{{Source: sub, Target: "/dev"}}, "(/dev)", ""},
		{"in the engine's own", []string{"sub:/dev/shm"}, []engine.Bind{{Source: sub, Target: "/dev/shm"}}, "", ""},
		{"similar name", []string{"sub:/device"}, []engine.Bind{{Source: sub, Target: "/device"}}, "", ""},
		{"relative destination", []string{"sub:mnt"}, nil, "", `the destination "mnt" must be an absolute path`},
		{"empty destination", []string{"sub:"}, nil, "", "must be an absolute path"},
		{"root", []string{"sub:/"}, nil, "", "cannot be the container's root"},
		{"root in disguise", []string{"sub:/a/.."}, nil, "", "cannot be the container's root"},
		{"whole host without a destination", []string{"/"}, nil, "", "cannot be the container's root"},
		{"missing source", []string{"nope:/m"}, nil, "", "the source cannot be used"},
		{"empty", []string{""}, nil, "", "write SRC"},
		{"empty source", []string{":/m"}, nil, "", "write SRC"},
		{"unknown mode", []string{"sub:/m:x"}, nil, "", "write SRC"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, w := newSession(t, nil, nil)
			got, err := s.binds(Options{Binds: tc.wishes}, guest.User{}, false)
			if !check(t, err, tc.err) {
				return
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if got := strings.Join(w.lines, "\n"); (got == "") != (tc.warnings == "") || !strings.Contains(got, tc.warnings) {
				t.Errorf("warned %q, want %q", got, tc.warnings)
			}
		})
	}
}

func TestSharedHome(t *testing.T) {
	ann := guest.User{Name: "ann", UID: 1000, Home: "/home/ann/"}
	for _, tc := range []struct {
		name, home string // "" takes a real directory
		user       guest.User
		target     string
		err        string
	}{
		{"root", "", guest.User{Home: "/elsewhere"}, "/root", ""},
		{"user", "", ann, "/home/ann", ""},
		{"no home in the container", "", guest.User{Name: "7", UID: 7, Home: "/"}, "", "user 7 has no home directory"},
		{"unset", "unset", ann, "", "HOME is not set"},
		{"whole host", "/../", ann, "", "share the whole host"},
		{"missing", "/no/such/home", ann, "", "cannot be used"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, _ := newSession(t, nil, nil)
			if tc.home != "" {
				s.host.Home = strings.TrimPrefix(tc.home, "unset")
			}
			got, err := s.binds(Options{SharedHome: true}, tc.user, false)
			if check(t, err, tc.err) && (len(got) != 1 || got[0].Target != tc.target || got[0].Source != s.host.Home) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestBound(t *testing.T) {
	binds := []engine.Bind{{Source: "/h", Target: "/m"}, {Source: "/i", Target: "/m/n"}, {Source: "/d", Target: "/dev"}}
	for name, want := range map[string]string{
		"/m": "/h", "/m/x": "/h/x", "/m/n/x": "/i/x", "/mm": "", "/": "", "/proc/self": "/proc/self", "/dev/x": "/d/x", "/m/../x": "",
	} {
		if got, ok := bound(binds, name); got != want || ok != (want != "") {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestLinkBind(t *testing.T) {
	s, _ := newSession(t, nil, nil)
	s.linked = func() (bool, error) { return true, nil }
	for _, readOnly := range []bool{false, true} {
		spec, err := s.Login(Options{ReadOnly: readOnly}, nil)
		check(t, err, "")
		if want := (engine.Bind{Source: s.rootfsPath, Target: s.rootfsPath, ReadOnly: readOnly}); !slices.Contains(spec.Binds, want) {
			t.Errorf("binds %v, want %v", spec.Binds, want)
		}
	}
}
