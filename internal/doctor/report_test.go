package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
	"proot-distro/internal/engine/native"
	"proot-distro/internal/engine/proot"
	"proot-distro/internal/host"
	"proot-distro/internal/image"
	"proot-distro/internal/platform"
	"proot-distro/internal/registry"
)

// debian is a machine on which all is well.
func debian() machine {
	place := placeFacts{
		Exists: true, FileSystem: "ext4", Free: 40 << 30, Writable: true, Programs: true,
		HardLinks: true, SymLinks: true, Modes: true, CaseCounts: true, Xattrs: true,
	}
	state, cache := place, place
	state.Name, state.Path = "state", "/home/u/.local/share/proot-distro"
	cache.Name, cache.Path = "cache", "/home/u/.cache/proot-distro"
	install := host.ParseSystem("ID=debian").InstallCommand
	return machine{
		program: "pd", version: "1.0",
		host: hostFacts{System: "Debian GNU/Linux 12", Kernel: "6.1.0", Arch: platform.X86_64, User: "u", UID: 1000, Proc: true, install: install},
		wish: wishFacts{engine: EngineAuto},
		native: &nativeFacts{
			Abilities: native.Abilities{OwnProcesses: true},
			denial:    denial{maxUserNamespaces: "0", unprivilegedClone: "0", appArmorRestriction: "1", seccomp: true},
		},
		proot: prootFacts{Abilities: proot.Abilities{Path: "/usr/bin/proot", Version: "5.4.0", KernelRelease: true}},
		emulators: []emulatorFacts{
			{Arch: platform.AArch64, Emulator: "/usr/bin/qemu-aarch64-static", Version: "7.2.1", Static: true, Native: true, Proot: true},
			{Arch: platform.ARM, missing: true},
			{Arch: platform.I686, Native: true, Proot: true},
			{Arch: platform.RISCV64, missing: true},
			{Arch: platform.X86_64, Native: true, Proot: true},
		},
		ids:         &idFacts{},
		places:      []placeFacts{state, cache},
		tools:       []toolFacts{{Name: "git", Path: "/usr/bin/git", use: "build uses it"}},
		credentials: credentialFacts{File: "/home/u/.docker/config.json"},
		containers:  containerFacts{Containers: 3, Sessions: 1},
		cache:       cacheFacts{Usage: image.Usage{Layers: 2 << 30, Unpacked: 1 << 30}},
		registries: []registryFacts{{Reached: registry.Reached{
			Registry: "docker.io", Host: "registry-1.docker.io", Address: "192.0.2.1:443", TLS: "TLS 1.3", Status: 401, Took: 120 * time.Millisecond,
		}, Took: 0.12}},
	}
}

// The form that scripts rely on.
func TestJSON(t *testing.T) {
	got, err := json.MarshalIndent(debian().report(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", "report.json")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
		t.Errorf("run with UPDATE=1 if this is meant:\n%s", diff)
	}
}

func refused(step string, errno unix.Errno) error {
	return fmt.Errorf("%w: %w", native.ErrUnavailable, &native.StepError{Step: step, Errno: errno})
}

func denied(m *machine) { m.native.err = refused("create namespaces", unix.EPERM) }

func noProot(m *machine) {
	m.proot = prootFacts{err: &proot.NotFoundError{Hint: "sudo apt install proot"}}
}

var testCases = map[string]struct {
	change func(*machine)
	engine string // that login takes
	id     string // of the finding to look at
	status Status
	text   string   // in it
	fix    []string // in its fix, each
}{
	"native":   {nil, "native", "engine.login", OK, "login takes native", nil},
	"as asked": {func(m *machine) { m.wish = wishFacts{engine: EngineProot, from: "PD_ENGINE"} }, "proot", "engine.login", OK, "as PD_ENGINE says", nil},
	"asked for what does not exist": {func(m *machine) { m.wish = wishFacts{from: "PD_ENGINE", err: errors.New("there is no engine docker")} },
		"", "engine.login", Problem, "docker", []string{"unset it"}},
	"asked for what does not work": {func(m *machine) { denied(m); m.wish = wishFacts{engine: EngineNative, from: "PD_ENGINE"} },
		"", "engine.login", Problem, "native (as PD_ENGINE says) does not work", []string{"PD_ENGINE=auto"}},
	"no proot, not needed": {noProot, "native", "engine.proot", Note, "not installed", []string{"sudo apt install proot"}},
	"no proot, asked for": {func(m *machine) { noProot(m); m.wish.engine = EngineProot },
		"", "engine.proot", Problem, "not installed", []string{"sudo apt install proot"}},
	"no namespaces": {denied, "proot", "engine.native", Note, "cannot create namespaces: operation not permitted (EPERM)",
		[]string{"sysctl kernel.unprivileged_userns_clone=1"}},
	"nothing":        {func(m *machine) { denied(m); noProot(m) }, "", "engine.native", Problem, "EPERM", []string{"sysctl"}},
	"nothing at all": {func(m *machine) { denied(m); noProot(m) }, "", "engine.login", Problem, "no engine works", []string{"one of the engines"}},
	"no more namespaces": {func(m *machine) { m.native.err = refused("create namespaces", unix.ENOSPC) },
		"proot", "engine.native", Note, "turned off", []string{"user.max_user_namespaces"}},
	"AppArmor": {func(m *machine) {
		m.native.err = refused("make mounts private", unix.EACCES)
		m.native.denial.unprivilegedClone = ""
	},
		"proot", "engine.native", Note, "AppArmor", []string{"pd doctor --apparmor-profile"}},
	"chroot": {func(m *machine) { denied(m); m.native.denial.unprivilegedClone = "1"; m.host.Inside = "chroot" },
		"proot", "engine.native", Note, "in a chroot", []string{"outside"}},
	"container": {func(m *machine) { denied(m); m.host.UID, m.host.Inside = 0, "container" },
		"proot", "engine.native", Note, "container", []string{"--security-opt"}},
	"filter": {func(m *machine) { denied(m); m.native.denial = denial{seccomp: true} },
		"proot", "engine.native", Note, "filter", []string{"where there is none"}},
	"no known reason": {func(m *machine) { denied(m); m.native.denial = denial{} },
		"proot", "engine.native", Note, "EPERM", []string{"Something forbids"}},
	"old kernel": {func(m *machine) { m.native.err = refused("make mounts read-only (Linux 5.12)", unix.ENOSYS) },
		"proot", "engine.native", Note, "5.12", []string{"Linux 5.12 or newer"}},
	"masked /proc": {func(m *machine) { m.native.OwnProcesses = false }, "native", "engine.native", OK, "see the processes", nil},
	"proot leaks, refused": {func(m *machine) { m.proot.Leaks, m.proot.LeaksRefused = []string{"statx"}, true },
		"native", "engine.proot", OK, "translate statx; they are refused", nil},
	"proot leaks": {func(m *machine) { m.proot.Leaks = []string{"statx"} }, "native", "engine.proot", Note, "host's file metadata", []string{"5.2"}},
	"no ptrace": {func(m *machine) { m.proot.err = fmt.Errorf("%w: ptrace: EPERM", proot.ErrUnusable) },
		"native", "engine.proot", Note, "ptrace", []string{"native engine"}},
	"not a proot": {func(m *machine) { m.proot = prootFacts{err: fmt.Errorf("%w: no such options", proot.ErrUnusable)} },
		"native", "engine.proot", Note, "no such options", []string{"PD_PROOT_BIN", "apt install proot"}},
	"nested": {func(m *machine) { m.proot = prootFacts{err: proot.ErrNested} }, "native", "engine.proot", Problem, "nested", []string{"on the host"}},
	"emulator broken": {func(m *machine) { m.emulators[0].err = errors.New("exit status 1") },
		"native", "emulator.aarch64", Problem, "exit status 1", []string{"sudo apt install qemu-user-static"}},
	"emulator not for native": {func(m *machine) {
		m.emulators[0].native = &engine.Unsupported{Fix: "it is not static; install another"}
	},
		"native", "emulator.aarch64", Note, "under proot only", []string{"It is not static"}},
	"no emulator": {nil, "native", "emulator.riscv64", Note, "no emulator", []string{"sudo apt install qemu-user-static"}},
	"no 32 bits":  {func(m *machine) { m.emulators[2].err = unix.ENOEXEC }, "native", "emulator.i686", Note, "exec format", []string{"32-bit"}},
	"no scratch":  {func(m *machine) { m.untried = fs.ErrPermission }, "native", "emulator.x86_64", Problem, "permission", []string{"TMPDIR"}},
	"single user": {func(m *machine) { m.ids.err = &native.FullMapError{Problem: "no newuidmap", Remedy: "Install uidmap."} },
		"native", "ids.full", Note, "no newuidmap", []string{"Install uidmap."}},
	"full disk": {func(m *machine) { m.places[0].err = &fs.PathError{Op: "mkdir", Path: "/x", Err: unix.ENOSPC} },
		"native", "disk.state", Problem, "full", []string{"pd list --image"}},
	"disk nearly full": {func(m *machine) { m.places[1].Free = 1 << 20 }, "native", "disk.cache", Problem, "1 MiB free", []string{"pd clear-cache"}},
	"little room":      {func(m *machine) { m.places[0].Free = 900 << 20 }, "native", "disk.state", Note, "900 MiB free", []string{"Make room"}},
	"noexec":           {func(m *machine) { m.places[0].Programs = false }, "native", "disk.state", Problem, "noexec", []string{"XDG_DATA_HOME"}},
	"noexec cache":     {func(m *machine) { m.places[1].Programs = false }, "native", "disk.cache", OK, "ext4", nil},
	"vfat": {func(m *machine) { m.places[0].SymLinks, m.places[0].Modes = false, false },
		"native", "disk.state", Problem, "no symbolic links, no permissions", []string{"XDG_DATA_HOME"}},
	"read-only disk": {func(m *machine) { m.places[1].err = &fs.PathError{Op: "mkdir", Path: "/x", Err: unix.EROFS} },
		"native", "disk.cache", Problem, "cannot be used: read-only file system", []string{"XDG_CACHE_HOME"}},
	"no git":           {func(m *machine) { m.tools[0].Path = "" }, "native", "program.git", Note, "not installed", []string{"sudo apt install git"}},
	"no helper":        {func(m *machine) { m.credentials.missing = []string{"docker-credential-x"} }, "native", "credentials", Problem, "docker-credential-x", []string{"helper"}},
	"no colon":         {func(m *machine) { m.credentials = credentialFacts{Variable: true} }, "native", "credentials", Problem, "colon", []string{"USER:PASSWORD"}},
	"open file":        {func(m *machine) { m.credentials.open = true }, "native", "credentials", Note, "other users", []string{"chmod 600 /home/u"}},
	"leftovers":        {func(m *machine) { m.containers.Leftovers, m.containers.LeftoverSize = []string{"a", "b"}, 5<<20 }, "native", "containers", Note, "a, b, 5 MiB", []string{"next install", "--orphan"}},
	"broken download":  {func(m *machine) { m.cache.Unfinished = 3 << 30 }, "native", "disk.usage", Note, "broke off and can go on 3 GiB", []string{"--orphan"}},
	"killed build":     {func(m *machine) { m.cache = cacheFacts{Scratch: 1 << 20} }, "native", "disk.usage", Note, "empty; builds that were killed left 1 MiB", []string{"--orphan"}},
	"unreadable cache": {func(m *machine) { m.cache.err = unix.EACCES }, "native", "disk.usage", Problem, "permission denied", []string{"clear-cache"}},
	"clock": {func(m *machine) { m.registries[0].Reached.Skew = -time.Hour },
		"native", "registry.docker.io", Problem, "1h0m0s behind", []string{"clock"}},
	"no name server": {func(m *machine) {
		m.registries[0].err = &registry.Error{Kind: registry.DNS, Host: "docker.io", Err: errors.New("x")}
	},
		"native", "registry.docker.io", Problem, "docker.io", []string{"resolv.conf"}},
	"no /proc": {func(m *machine) { m.host.Proc = false }, "native", "host.proc", Problem, "/proc", []string{"mount"}},
	"root":     {func(m *machine) { m.host.UID = 0 }, "native", "host.user", OK, "harm", nil},
}

func TestFindings(t *testing.T) {
	for name, tc := range testCases {
		m := debian()
		if tc.change != nil {
			tc.change(&m)
		}
		r := m.report()
		if r.Engine != tc.engine || r.Usable != (m.nativeWorks() || m.prootWorks()) {
			t.Errorf("%s: login takes %q, usable %v", name, r.Engine, r.Usable)
		}
		i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.ID == tc.id })
		if i < 0 {
			t.Errorf("%s: no finding %s", name, tc.id)
			continue
		}
		f := r.Findings[i]
		if f.Status != tc.status || !strings.Contains(f.Text, tc.text) || (len(tc.fix) == 0) != (f.Fix == "") {
			t.Errorf("%s: %+v", name, f)
		}
		for _, part := range tc.fix {
			if !strings.Contains(f.Fix, part) {
				t.Errorf("%s: the fix %q does not say %q", name, f.Fix, part)
			}
		}
		for _, f := range r.Findings {
			if f.Status == Problem && f.Fix == "" || Heading(f.Section()) == "" || f.Text == "" ||
				f.Fix != "" && (!strings.HasSuffix(f.Fix, ".") && !strings.HasSuffix(f.Fix, "--allow-insecure")) {
				t.Errorf("%s: %+v", name, f)
			}
		}
		if r.Unreachable() != (tc.status == Problem && strings.HasPrefix(tc.id, "registry.")) {
			t.Errorf("%s: unreachable is %v", name, r.Unreachable())
		}
	}
}

func TestPhone(t *testing.T) {
	m, yes := debian(), true
	m.native, m.ids = nil, nil
	m.host.Termux, m.host.install = true, func(pkg string) string { return "pkg install " + pkg }
	m.host.Phone = &androidFacts{Release: "14", SDK: 34, PhantomKiller: &yes}
	r := m.report()
	var problems []string
	for _, f := range r.Findings {
		if f.Status != OK {
			problems = append(problems, fmt.Sprintf("%s %s", f.ID, f.Fix))
		}
	}
	if r.Engine != "proot" || !r.Usable {
		t.Errorf("login takes %q", r.Engine)
	}
	if diff := cmp.Diff([]string{
		"host.storage To have it there, run 'termux-setup-storage' and allow it.",
		"host.phantom Turn on 'Disable child process restrictions' in Android's developer options.",
		"engine.proot Run 'pkg install proot' and unset PD_PROOT_BIN.",
		"emulator.arm Run 'pkg install qemu-user-arm'.",
		"emulator.riscv64 Run 'pkg install qemu-user-riscv64'.",
	}, problems); diff != "" {
		t.Error(diff)
	}
	noProot(&m)
	if r := m.report(); r.Usable || r.Engine != "" {
		t.Errorf("without proot login takes %q", r.Engine)
	}
}
