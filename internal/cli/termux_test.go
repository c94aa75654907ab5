package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proot-distro/internal/host"
	"proot-distro/internal/platform"
	"proot-distro/test/fixtures"
)

// phone is an Android phone with Termux, in a directory.
type phone struct {
	dir  string
	host *host.Host
	env  map[string]string
}

// phoneFiles are what the phone has beside Termux: some of Android's directories, and
// the files of /proc that it lets programs read. What ends in a slash is a directory.
var phoneFiles = []string{
	"system/", "apex/", "vendor/", "linkerconfig/ld.config.txt", "plat_property_contexts", "data/app/", "data/data/com.termux/",
	"dev/urandom", "dev/fd/", "storage/emulated/0/",
	"proc/version", "proc/sys/kernel/cap_last_cap", "proc/sys/kernel/overflowuid", "proc/sys/kernel/overflowgid",
	"proc/sys/fs/inotify/max_user_watches",
}

// newPhone makes a phone with one container, box, whose root filesystem has files: an ELF
// program in place of an empty content.
func newPhone(t *testing.T, files map[string]string) *phone {
	t.Helper()
	dir := t.TempDir()
	p := &phone{dir: dir, env: map[string]string{
		"TERM": "xterm", "ANDROID_ROOT": "/system", "ANDROID_DATA": "/data", "EXTERNAL_STORAGE": "/sdcard",
		"LD_PRELOAD": "/data/libtermux-exec.so", "SECRET": "of the host",
	}}
	prefix := filepath.Join(dir, "usr")
	must(t, fixtures.TermuxPrefix(prefix, ""))
	p.env["PATH"] = prefix + "/bin:/usr/bin:/bin"
	for _, name := range phoneFiles {
		p.write(t, "android/"+name, "some\n")
	}
	runtime := filepath.Join(prefix, "var/lib/proot-distro")
	p.host = &host.Host{
		Termux: true, Prefix: prefix, Home: filepath.Join(dir, "home"), AppPackage: "com.termux",
		Dirs: host.Dirs{Runtime: runtime, Cache: filepath.Join(runtime, "cache")},
		Arch: platform.Binary(), Getenv: func(key string) string { return p.env[key] },
		Root: filepath.Join(dir, "android"),
	}
	self, err := os.ReadFile("/bin/busybox")
	must(t, err)
	for name, content := range files {
		if content == "" {
			content = string(self)
		}
		p.write(t, "usr/var/lib/proot-distro/containers/box/rootfs/"+name, content)
	}
	must(t, os.MkdirAll(p.host.Home, 0o755))
	return p
}

func (p *phone) write(t *testing.T, name, content string) {
	t.Helper()
	full := filepath.Join(p.dir, name)
	if strings.HasSuffix(name, "/") {
		must(t, os.MkdirAll(full, 0o755))
		return
	}
	must(t, errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, []byte(content), 0o755)))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pd runs the command line on the phone.
func (p *phone) pd(t *testing.T, args ...string) result {
	t.Helper()
	var streams [2]*os.File
	for i := range streams {
		f, err := os.CreateTemp(t.TempDir(), "stream")
		must(t, err)
		defer f.Close()
		streams[i] = f
	}
	null, err := os.Open(os.DevNull)
	must(t, err)
	defer null.Close()
	a := newApp(append([]string{"pd"}, args...), null, streams[0], streams[1])
	a.host, a.hostErr, a.Getenv = p.host, nil, p.host.Getenv
	err = a.run(context.Background())
	if err != nil {
		a.present(err)
	}
	must(t, a.UI.Close())
	r := result{code: exitCode(err)}
	for i, text := range []*string{&r.out, &r.err} {
		data, err := os.ReadFile(streams[i].Name())
		must(t, err)
		*text = strings.NewReplacer(p.dir, "$PHONE", string(platform.Binary().Uname()), "$MACHINE").Replace(string(data))
	}
	r.err = withoutRootWarning(r.err)
	return r
}

var distribution = map[string]string{
	"bin/sh": "", "etc/profile.d/": "", "root/": "", "etc/passwd": "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n",
	"home/ann/": "",
}

var termuxPackages = map[string]string{
	"data/data/com.termux/files/usr/bin/sh": "", "data/data/com.termux/files/usr/bin/bash": "",
	"data/data/com.termux/files/usr/bin/login": "#!/data/data/com.termux/files/usr/bin/sh\n",
	"data/data/com.termux/files/home/":         "",
}

// TestPhoneCommandLines compares proot's command lines over the options with testdata/phone:
// set UPDATE=1 to write them.
func TestPhoneCommandLines(t *testing.T) {
	for name, tc := range map[string]struct {
		files map[string]string
		args  string
	}{
		"default":          {distribution, "box"},
		"command":          {distribution, "box -- echo hello"},
		"user":             {distribution, "box --user ann"},
		"isolated":         {distribution, "box --isolated"},
		"minimal":          {distribution, "box --minimal"},
		"minimal-env":      {distribution, "box --minimal --env A=1 --env HOME=/x"},
		"no-extensions":    {distribution, "box --isolated --no-link2symlink --no-sysvipc --no-kill-on-exit"},
		"names":            {distribution, "box --isolated --hostname phone --kernel 5.4.0 --redirect-ports"},
		"shared":           {distribution, "box --isolated --shared-tmp --shared-x11 --shared-home"},
		"shared-x11-env":   {distribution, "box --minimal --shared-x11 --env DISPLAY=:5 --env PULSE_SERVER=here"},
		"env":              {distribution, "box --env PATH=/opt/bin:$PREFIX/bin:/bin --env ANDROID_ROOT=/mine"},
		"termux":           {termuxPackages, "box"},
		"termux-command":   {termuxPackages, "box -- echo hello"},
		"termux-isolated":  {termuxPackages, "box --isolated --shared-home --env HOME=/x"},
		"termux-minimal":   {termuxPackages, "box --minimal"},
		"emulator":         {distribution, "box --emulator /bin/true"},
		"emulator-minimal": {distribution, "box --emulator /bin/true --minimal"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPhone(t, tc.files)
			if strings.Contains(tc.args, "--minimal") {
				p.env["PROOT_VERBOSE"] = "3" // does not count there
			}
			args := strings.Fields(strings.ReplaceAll(tc.args, "$PREFIX", p.host.Prefix))
			r := p.pd(t, append([]string{"login", "--get-proot-cmd"}, args...)...)
			if r.code != 0 || r.err != "" {
				t.Fatalf("%d %s", r.code, r.err)
			}
			golden(t, filepath.Join("testdata/phone", name), r.out)
			if strings.Contains(r.out, "LD_PRELOAD") || strings.Contains(r.out, "SECRET") {
				t.Error("the host's variables reach the guest")
			}
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if os.Getenv("UPDATE") != "" {
		must(t, errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(got), 0o644)))
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func TestPhoneRefusals(t *testing.T) {
	foreign := map[string]string{}
	for name, content := range termuxPackages {
		foreign[name] = content
	}
	for _, tc := range []struct {
		name  string
		files map[string]string
		args  string
		code  int
		err   string
	}{
		{"modes", distribution, "box --isolated --minimal", 2, "options --isolated and --minimal exclude each other"},
		{"user of Termux", termuxPackages, "box --user ann", 125, "no users but your own"},
		{"emulator of Termux", foreign, "box --emulator /bin/true", 125, "cannot run on this"},
		{"shared-tmp of Termux", termuxPackages, "box --shared-tmp", 0, "--shared-tmp has no effect"},
		{"a file for the links", map[string]string{"bin/sh": "", "root/": "", ".l2s": "x"}, "box -- true", 125, "/.l2s in it must be a directory"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPhone(t, tc.files)
			args := append([]string{"login"}, strings.Fields(tc.args)...)
			if tc.code == 0 {
				args = append(args, "--get-proot-cmd")
			}
			r := p.pd(t, args...)
			if r.code != tc.code || !strings.Contains(r.err, tc.err) {
				t.Errorf("%d %s", r.code, r.err)
			}
		})
	}
}

// Elsewhere the options are refused with the reason.
func TestTermuxOptionsElsewhere(t *testing.T) {
	home(t)
	for _, option := range []string{
		"isolated", "minimal", "no-link2symlink", "no-sysvipc", "no-kill-on-exit", "shared-tmp", "shared-x11",
	} {
		r := pd(t, "login", "box", "--"+option)
		r.want(t, 2, "", "Error: option --"+option+" exists on Termux only: ")
	}
}
