package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"proot-distro/internal/container"
	"proot-distro/internal/host"
	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
)

// makeContainer puts a container into the store, as the Python program leaves it.
func makeContainer(t *testing.T, containers, name, record string) {
	t.Helper()
	dir := filepath.Join(containers, name, "rootfs", "etc")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "issue"), []byte("hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if record == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(containers, name, "manifest.json"), []byte(record), 0o644); err != nil {
		t.Fatal(err)
	}
}

func record(ref string, arch platform.Arch) string {
	r := imageRecord(ref, arch)
	data, err := r.Encode()
	if err != nil {
		panic(err)
	}
	return string(data)
}

func imageRecord(ref string, arch platform.Arch, layers ...string) *oci.Record {
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","of":"%x"}`, ref+string(arch))
	var list []string
	for _, l := range layers {
		list = append(list, fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}`,
			digest.FromString(l), len(l)))
	}
	manifest := fmt.Sprintf(`{"schemaVersion":2,"config":{"digest":%q,"size":%d},"layers":[%s]}`,
		digest.FromString(config), len(config), strings.Join(list, ","))
	return &oci.Record{ImageRef: ref, Arch: arch, Manifest: json.RawMessage(manifest), Config: json.RawMessage(config)}
}

func dirs(t *testing.T) host.Dirs {
	t.Helper()
	h, err := host.Detect(host.SystemEnv())
	if err != nil {
		t.Fatal(err)
	}
	return h.Dirs
}

func cacheImage(t *testing.T, ref string, arch platform.Arch, layers ...string) {
	t.Helper()
	cache := image.OpenCache(dirs(t))
	for _, l := range layers {
		if _, err := cache.WriteBlob([]byte(l)); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := oci.ParseRef(ref)
	if err == nil {
		err = cache.Store(parsed, imageRecord(ref, arch, layers...))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestList(t *testing.T) {
	containers := home(t)
	pd(t, "list").want(t, 0, "No container is installed yet. Try: pd install debian\n", "")
	pd(t, "ls", "-q").want(t, 0, "", "")
	makeContainer(t, containers, "deb", record("debian:12", platform.AArch64))
	makeContainer(t, containers, "plain", "")
	makeContainer(t, containers, "torn", "{")
	makeContainer(t, containers, "evil", record("x\x1b[2J", platform.ARM))
	if err := os.MkdirAll(filepath.Join(containers, "no-rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	own := string(platform.Binary())
	want := "NAME   IMAGE                       ARCHITECTURE\n" +
		"deb    debian:12                   aarch64\n" +
		"evil   x\\x1b[2J                    arm\n" +
		"plain  (none)                      " + own + "\n" +
		"torn   (manifest.json is damaged)  " + own + "\n"
	if diff := cmp.Diff(result{0, want, ""}, pd(t, "li"), cmp.AllowUnexported(result{})); diff != "" {
		t.Error(diff)
	}
	pd(t, "list", "--quiet").want(t, 0, "deb\nevil\nplain\ntorn\n", "")
}

// A guest on Termux can write where manifest.json lies.
func TestListFollowsNoLinks(t *testing.T) {
	containers := home(t)
	makeContainer(t, containers, "deb", "")
	secret := filepath.Join(t.TempDir(), "record.json")
	if err := os.WriteFile(secret, []byte(record("leaked", platform.ARM)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(containers, "deb", "manifest.json")); err != nil {
		t.Fatal(err)
	}
	if r := pd(t, "list"); strings.Contains(r.out, "leaked") || r.code != 0 {
		t.Error(r)
	}
}

func TestListImages(t *testing.T) {
	home(t)
	pd(t, "list", "--image").want(t, 0, "No image is cached.\n", "")
	cacheImage(t, "debian:12", platform.X86_64, strings.Repeat("a", 3000), "b")
	cacheImage(t, "docker.io/library/alpine", platform.ARM, "c")
	cacheImage(t, "alpine", platform.X86_64, "lost")
	if err := os.Remove(filepath.Join(dirs(t).Layers(), "sha256_"+digest.FromString("lost").Encoded())); err != nil {
		t.Fatal(err)
	}
	want := "IMAGE          ARCHITECTURE  LAYERS  SIZE\n" +
		"alpine:latest  arm           1       1 B\n" +
		"alpine:latest  x86_64        1       0 B of 4 B\n" +
		"debian:12      x86_64        2       2.9 KiB\n"
	if diff := cmp.Diff(want, pd(t, "list", "-i").out); diff != "" {
		t.Error(diff)
	}
	pd(t, "list", "-iq").want(t, 0, "alpine:latest\ndebian:12\n", "")
}

func TestRemove(t *testing.T) {
	containers := home(t)
	for _, name := range []string{"one", "two", "three"} {
		makeContainer(t, containers, name, "")
	}
	locked := filepath.Join(containers, "two", "rootfs", "etc")
	if err := os.Chmod(locked, 0); err != nil {
		t.Fatal(err)
	}
	pd(t, "remove", "one", "nope", "two").want(t, 3, "", "[*] Removed container 'one'.\n[*] Removed container 'two'.\nError: there is no container \"nope\"\n")
	pd(t, "rm", "--verbose", "three").want(t, 0, "", " -> removed three/rootfs/etc/issue\n")
	pd(t, "list").want(t, 0, "No container", "")
	makeContainer(t, containers, "four", "")
	pd(t, "remove", "-q", "four").want(t, 0, "", "")
}

func TestRemoveBusy(t *testing.T) {
	containers := home(t)
	makeContainer(t, containers, "deb", "")
	c, err := container.NewStore(dirs(t)).Open("deb", container.Shared, "login")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want := fmt.Sprintf("Error: container \"deb\" is in use by login (PID %d)\nWait until it has ended; 'pd ps'", os.Getpid())
	pd(t, "remove", "deb").want(t, 4, "", want)
	pd(t, "list", "-q").want(t, 0, "deb\n", "")
}

func TestRemoveImage(t *testing.T) {
	home(t)
	other := platform.ARM
	if platform.Binary() == other {
		other = platform.AArch64
	}
	cacheImage(t, "debian:12", platform.Binary(), "layer")
	cacheImage(t, "debian:12", other, "other layer")
	cacheImage(t, "alpine", other, "third layer")
	pd(t, "remove", "-i", "-a", string(platform.Binary()), "docker.io/library/debian:12").want(t, 0, "", fmt.Sprintf("Removed image 'debian:12' (%s) from the cache: ", platform.Binary()))
	pd(t, "remove", "-i", "-a", string(platform.RISCV64), "alpine").want(t, 3, "", "'alpine:latest' is not in the cache for riscv64")
	pd(t, "remove", "-i", "alpine", "-v").want(t, 0, "", " -> removed sha256_"+digest.FromString("third layer").Encoded()+"\n")
	pd(t, "list", "-i").want(t, 0, string(other), "")
	cache := image.OpenCache(dirs(t))
	release, err := cache.Lock(image.Shared)
	if err != nil {
		t.Fatal(err)
	}
	pd(t, "remove", "-i", "debian:12").want(t, 4, "", "image cache is in use by")
	if err := release(); err != nil {
		t.Fatal(err)
	}
	pd(t, "remove", "-qi", "debian:12").want(t, 0, "", "")
	pd(t, "list", "-i").want(t, 0, "No image is cached", "")

	// All of an image goes, unless one architecture is named.
	cacheImage(t, "debian:12", platform.AArch64, "layer")
	cacheImage(t, "debian:12", platform.X86_64, "other layer")
	pd(t, "remove", "-i", "debian:12").want(t, 0, "", "Removed image 'debian:12' (aarch64, x86_64) from the cache: ")
	pd(t, "list", "-i").want(t, 0, "No image is cached", "")
}

func TestChooseCached(t *testing.T) {
	records := []*oci.Record{imageRecord("x", platform.ARM), imageRecord("x:latest", platform.RISCV64), imageRecord("y", platform.ARM)}
	for _, c := range []struct {
		own, asked platform.Arch
		ref        string
		want       platform.Arch
	}{
		{platform.ARM, "", "x", platform.ARM},
		{platform.ARM, platform.RISCV64, "x", platform.RISCV64},
		{platform.X86_64, "", "y", platform.ARM},
		{platform.X86_64, "", "x", ""},
		{platform.X86_64, "", "z", ""},
		{platform.ARM, platform.I686, "x", ""},
	} {
		ref, err := oci.ParseRef(c.ref)
		if err != nil {
			t.Fatal(err)
		}
		got, err := chooseCached(c.own, c.asked, ref, records)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}

// register makes this process a session.
func register(t *testing.T, name, engine string) {
	t.Helper()
	f, err := container.NewStore(dirs(t)).Register(container.Session{
		PID: os.Getpid(), Container: name, Command: []string{"/bin/sh", "-c", "echo \x1b"}, Engine: engine,
		Arch: platform.X86_64, User: "root", Started: time.Now().Add(-90 * time.Minute),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
}

func TestPs(t *testing.T) {
	home(t)
	pd(t, "ps").want(t, 0, "No session is running.\n", "")
	pd(t, "ps", "-q").want(t, 0, "", "")
	register(t, "deb", "proot")
	pid := strconv.Itoa(os.Getpid())
	pd(t, "ps", "-q").want(t, 0, pid+"\n", "")
	r := pd(t, "ps")
	lines := strings.Split(r.out, "\n")
	got := strings.Fields(lines[1])
	want := strings.Fields(pid + ` deb 1 h root /bin/sh -c $'echo \x1b' proot x86_64`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(r.out, diff)
	}
}

func TestKillFindsNothing(t *testing.T) {
	home(t)
	pd(t, "kill", "--all").want(t, 0, "", "No session is running.\n")
	register(t, "deb", "proot") // this process traces nobody
	pd(t, "kill", "deb").want(t, 3, "", "is running any more")
	pd(t, "kill", strconv.Itoa(os.Getpid()), "nope").want(t, 3, "", "no session nope is running")
}

func TestKillOtherEngine(t *testing.T) {
	home(t)
	register(t, "deb", "steam")
	pd(t, "kill", "--all").want(t, 1, "", "runs in engine steam")
}

func TestSessionsOf(t *testing.T) {
	running := []container.Session{{PID: 12, Container: "a"}, {PID: 13, Container: "b"}, {PID: 14, Container: "a"}, {PID: 15, Container: "13"}}
	for target, want := range map[string][]int{"a": {12, 14}, "13": {13}, "15": {15}, "c": nil} {
		var got []int
		for _, s := range sessionsOf(running, target) {
			got = append(got, s.PID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", target, got, want)
		}
	}
}

func TestSignalValue(t *testing.T) {
	for in, want := range map[string]unix.Signal{"TERM": 15, "SIGKILL": 9, "sigint": 2, "hup": 1, "9": 9, "64": 64, "0": 0, "65": 0, "-9": 0, "X": 0, "": 0} {
		var v signalValue
		err := v.Set(in)
		if unix.Signal(v) != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d, %v", in, v, err)
		}
	}
	if name := signalName(40); name != "signal 40" {
		t.Error(name)
	}
}
