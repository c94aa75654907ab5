package host

import (
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"proot-distro/internal/platform"
)

// machine is an Env made of plain data.
type machine struct {
	vars    map[string]string
	exist   []string
	access  []string
	cpu     string
	android bool
}

func (m machine) env() Env {
	if m.cpu == "" {
		m.cpu = "x86_64"
	}
	return Env{
		Getenv:  func(k string) string { return m.vars[k] },
		Exists:  func(p string) bool { return slices.Contains(m.exist, p) },
		Access:  func(p string) bool { return slices.Contains(m.access, p) },
		Machine: m.cpu,
		Android: m.android,
	}
}

func TestTermuxNeedsTwoOfThreeSignals(t *testing.T) {
	const home = "/home/u"
	android := []string{"/system/build.prop"}
	prefix := []string{"/data/data/com.termux/files/usr"}
	for name, tc := range map[string]struct {
		machine machine
		want    bool
	}{
		"nothing":                  {machine{}, false},
		"an Android image mounted": {machine{exist: android}, false},
		"only /data/app":           {machine{exist: []string{"/data/app"}}, false},
		"built for Android":        {machine{android: true}, false},
		"variable kept by ssh":     {machine{vars: map[string]string{"TERMUX_VERSION": "0.119"}}, false},
		"only the prefix":          {machine{access: prefix}, false},
		"two signs of Android":     {machine{exist: []string{"/system/build.prop", "/data/app"}, android: true}, false},
		"Android and variable":     {machine{exist: android, vars: map[string]string{"TERMUX_VERSION": "0.119"}}, true},
		"build and variable":       {machine{android: true, vars: map[string]string{"TERMUX_APP__APP_VERSION_NAME": "0.119"}}, true},
		"/data/app and prefix":     {machine{exist: []string{"/data/app"}, access: prefix}, true},
		"variable and prefix":      {machine{vars: map[string]string{"TERMUX_VERSION": "0.119"}, access: prefix}, true},
		"prefix elsewhere": {machine{
			android: true, access: []string{"/opt/t"}, vars: map[string]string{"TERMUX__PREFIX": "/opt/t"},
		}, true},
		"prefix elsewhere, unreadable": {machine{
			android: true, access: prefix, vars: map[string]string{"TERMUX__PREFIX": "/opt/t"},
		}, false},
		"all three": {machine{android: true, access: prefix, vars: map[string]string{"TERMUX_VERSION": "1"}}, true},
	} {
		vars := map[string]string{"HOME": home}
		for k, v := range tc.machine.vars {
			vars[k] = v
		}
		tc.machine.vars = vars
		h, err := Detect(tc.machine.env())
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if h.Termux != tc.want {
			t.Errorf("%s: Termux is %v", name, h.Termux)
		}
	}
}

func detect(t *testing.T, m machine) *Host {
	t.Helper()
	h, err := Detect(m.env())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestTermuxPaths(t *testing.T) {
	termux := machine{android: true, cpu: "aarch64", vars: map[string]string{
		"TERMUX_VERSION": "0.119", "HOME": "/elsewhere", "XDG_DATA_HOME": "/xdg", "TERMUX__PREFIX": "  ",
	}}
	ignore := cmpopts.IgnoreFields(Host{}, "Getenv")
	const state = "/data/data/com.termux/files/usr/var/lib/proot-distro"
	if diff := cmp.Diff(&Host{
		Termux: true, Prefix: "/data/data/com.termux/files/usr", Home: "/data/data/com.termux/files/home",
		AppPackage: "com.termux", Arch: platform.AArch64, Dirs: Dirs{Runtime: state, Cache: state + "/cache"},
	}, detect(t, termux), ignore); diff != "" {
		t.Error(diff)
	}
	termux.vars["TERMUX__PREFIX"] = "/opt/usr/"
	termux.vars["TERMUX__HOME"] = "/opt/home"
	termux.vars["TERMUX_APP__PACKAGE_NAME"] = "org.example"
	if diff := cmp.Diff(&Host{
		Termux: true, Prefix: "/opt/usr", Home: "/opt/home", AppPackage: "org.example", Arch: platform.AArch64,
		Dirs: Dirs{Runtime: "/opt/usr/var/lib/proot-distro", Cache: "/opt/usr/var/lib/proot-distro/cache"},
	}, detect(t, termux), ignore); diff != "" {
		t.Error(diff)
	}
	for _, variable := range []string{"TERMUX__PREFIX", "TERMUX__HOME"} {
		old := termux.vars[variable]
		termux.vars[variable] = "usr"
		if _, err := Detect(termux.env()); err == nil || !strings.Contains(err.Error(), variable) {
			t.Errorf("relative %s: %v", variable, err)
		}
		termux.vars[variable] = old
	}
}

func TestXDGPaths(t *testing.T) {
	for _, tc := range []struct {
		vars map[string]string
		want Dirs
		err  string
	}{
		{vars: map[string]string{"HOME": "/home/u"}, want: Dirs{"/home/u/.local/share/proot-distro", "/home/u/.cache/proot-distro"}},
		{
			vars: map[string]string{"HOME": "/home/u", "XDG_DATA_HOME": "/d/./x/", "XDG_CACHE_HOME": "/c"},
			want: Dirs{"/d/x/proot-distro", "/c/proot-distro"},
		},
		{
			vars: map[string]string{"HOME": "/home/u", "XDG_DATA_HOME": "relative", "XDG_CACHE_HOME": ""},
			want: Dirs{"/home/u/.local/share/proot-distro", "/home/u/.cache/proot-distro"},
		},
		{vars: map[string]string{"XDG_DATA_HOME": "/d", "XDG_CACHE_HOME": "/c"}, want: Dirs{"/d/proot-distro", "/c/proot-distro"}},
		{vars: nil, err: "HOME is not set to an absolute path: set it, or set XDG_DATA_HOME"},
		{vars: map[string]string{"HOME": "u", "XDG_DATA_HOME": "/d"}, err: "set XDG_CACHE_HOME"},
		{vars: map[string]string{"HOME": "/home/u", "TERMUX__PREFIX": "relative"}, want: Dirs{"/home/u/.local/share/proot-distro", "/home/u/.cache/proot-distro"}},
	} {
		h, err := Detect(machine{vars: tc.vars}.env())
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%v: error %v, want %s", tc.vars, err, tc.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%v: %v", tc.vars, err)
			continue
		}
		if diff := cmp.Diff(tc.want, h.Dirs); diff != "" || h.Termux || h.Home != tc.vars["HOME"] {
			t.Errorf("%v: home %q, %s", tc.vars, h.Home, diff)
		}
	}
}

func TestCPU(t *testing.T) {
	for cpu, want := range map[string]platform.Arch{
		"x86_64": platform.X86_64, "aarch64": platform.AArch64, "armv7l": platform.ARM, "armv8l": platform.ARM,
		"i686": platform.I686, "i586": platform.I686, "riscv64": platform.RISCV64,
	} {
		if h := detect(t, machine{cpu: cpu, vars: map[string]string{"HOME": "/h"}}); h.Arch != want {
			t.Errorf("%s is %s", cpu, h.Arch)
		}
	}
	for _, cpu := range []string{"s390x", "ppc64le", "mips", "aarch64_be"} {
		if _, err := Detect(machine{cpu: cpu, vars: map[string]string{"HOME": "/h"}}.env()); err == nil || !strings.Contains(err.Error(), cpu) {
			t.Errorf("%s: %v", cpu, err)
		}
	}
}

func TestSystemEnv(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	env := SystemEnv()
	if env.Android != (runtime.GOOS == "android") {
		t.Errorf("Android is %v on %s", env.Android, runtime.GOOS)
	}
	if !env.Exists(dir) || env.Exists(filepath.Join(dir, "missing")) || !env.Access(dir) || env.Access(filepath.Join(dir, "missing")) {
		t.Error("Exists or Access is wrong")
	}
	if env.Getenv("HOME") != dir {
		t.Errorf("HOME is %q", env.Getenv("HOME"))
	}
	h, err := Detect(env)
	if err != nil {
		t.Fatal(err)
	}
	if !h.Arch.Runs(platform.Binary()) {
		t.Errorf("a %s machine runs this test, built for %s", h.Arch, platform.Binary())
	}
}

// The places that the user guide documents and other programs rely on.
func TestDirs(t *testing.T) {
	d := Dirs{Runtime: "/r", Cache: "/c"}
	for got, want := range map[string]string{
		d.Containers(): "/r/containers", d.Legacy(): "/r/installed-rootfs", d.Locks(): "/r/locks", d.Sessions(): "/r/sessions",
		d.Staging(): "/r/staging", d.Layers(): "/c/oci_layers", d.Manifests(): "/c/oci_manifests", d.Probes(): "/c/probes",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
