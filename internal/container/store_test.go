package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"proot-distro/internal/host"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/rootfs"
)

func newStore(t *testing.T) (*Store, host.Dirs) {
	t.Helper()
	root := t.TempDir()
	dirs := host.Dirs{Runtime: filepath.Join(root, "share", "proot-distro"), Cache: filepath.Join(root, "cache")}
	return NewStore(dirs), dirs
}

// plant writes a tree of files; a name with a slash at its end is a directory.
func plant(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		parent := filepath.Dir(path)
		if strings.HasSuffix(name, "/") {
			parent = path
		}
		if err := os.MkdirAll(parent, 0o755); err != nil {
			t.Fatal(err)
		}
		if parent == path {
			continue
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// tree lists what lies below dir, and the content of files.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			found[name] = string(data)
			return err
		}
		found[name] = d.Type().String()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func install(t *testing.T, s *Store, name, content string) {
	t.Helper()
	c, err := s.Create(name, "install")
	if err != nil {
		t.Fatal(err)
	}
	plant(t, c.RootfsPath(), map[string]string{"etc/content": content})
	if err := c.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// content is what install wrote, or why it can't be read.
func content(t *testing.T, s *Store, name string) string {
	t.Helper()
	c, err := s.Open(name, Shared, "test")
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	data, err := os.ReadFile(filepath.Join(c.RootfsPath(), "etc/content"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func names(t *testing.T, s *Store) []string {
	t.Helper()
	got, err := s.Names()
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func noStaging(t *testing.T, dirs host.Dirs) {
	t.Helper()
	if left, err := os.ReadDir(dirs.Staging()); err == nil && len(left) > 0 {
		t.Errorf("staging still holds %v", left)
	}
}

func TestValidateName(t *testing.T) {
	for _, name := range []string{"debian", "a", "0", "Ubuntu-24.04_x", "a..", strings.Repeat("x", 128), "build"} {
		if err := ValidateName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "-a", "_a", ".hidden", "a/b", "a b", "a\n", "a\x00", "é", "a~old", "../x", strings.Repeat("x", 129)} {
		if err := ValidateName(name); err == nil {
			t.Errorf("%q is accepted", name)
		}
	}
}

func TestLife(t *testing.T) {
	s, dirs := newStore(t)
	if got := names(t, s); len(got) != 0 {
		t.Errorf("a new store has %v", got)
	}
	c, err := s.Create("debian", "install")
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, s); len(got) != 0 {
		t.Errorf("an uncommitted container is listed: %v", got)
	}
	if info, err := os.Stat(c.RootfsPath()); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the draft's rootfs: %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(c.Dir()); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("others could run the guest's setuid programs: %v, %v", info.Mode(), err)
	}
	if err := c.Remove(rootfs.RemoveOptions{}); err == nil {
		t.Error("a draft was removed")
	}
	if err := c.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := c.Commit(); err == nil {
		t.Error("committed twice")
	}
	if want := filepath.Join(dirs.Containers(), "debian", "rootfs"); c.RootfsPath() != want {
		t.Errorf("RootfsPath is %s, want %s", c.RootfsPath(), want)
	}
	if _, err := c.Record(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Record without manifest.json: %v", err)
	}
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	install(t, s, "alpine", "a")
	if diff := cmp.Diff([]string{"alpine", "debian"}, names(t, s)); diff != "" {
		t.Error(diff)
	}

	var exists *ExistsError
	if _, err := s.Create("debian", "install"); !errors.As(err, &exists) || exists.Name != "debian" {
		t.Errorf("Create of a taken name: %v", err)
	}
	c, err = s.Open("debian", Exclusive, "remove")
	if err != nil {
		t.Fatal(err)
	}
	var removed []string
	plant(t, c.RootfsPath(), map[string]string{"etc/passwd": "x"})
	if err := c.Remove(rootfs.RemoveOptions{OnRemove: func(p string) { removed = append(removed, p) }}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/rootfs/etc/passwd", "/rootfs/etc", "/rootfs"}, removed); diff != "" {
		t.Error(diff)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	noStaging(t, dirs)
	var missing *NotFoundError
	if _, err := s.Open("debian", Shared, "login"); !errors.As(err, &missing) || missing.Name != "debian" {
		t.Errorf("Open after Remove: %v", err)
	}
}

func TestUncommitted(t *testing.T) {
	s, dirs := newStore(t)
	c, err := s.Create("debian", "install")
	if err != nil {
		t.Fatal(err)
	}
	plant(t, c.RootfsPath(), map[string]string{"locked/file": "x"})
	if err := os.Chmod(filepath.Join(c.RootfsPath(), "locked"), 0); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	noStaging(t, dirs)
	if got := names(t, s); len(got) != 0 {
		t.Errorf("an abandoned draft is listed: %v", got)
	}
	install(t, s, "debian", "second try")
}

func TestMistypedNameLeavesNothing(t *testing.T) {
	s, dirs := newStore(t)
	var missing *NotFoundError
	if _, err := s.Open("debain", Exclusive, "remove"); !errors.As(err, &missing) {
		t.Errorf("Open in an empty store: %v", err)
	}
	if _, err := os.Stat(dirs.Runtime); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("looking for a container made the state directory: %v", err)
	}
	install(t, s, "debian", "x")
	before := tree(t, dirs.Runtime)
	if _, err := s.Open("debain", Shared, "login"); !errors.As(err, &missing) {
		t.Errorf("Open: %v", err)
	}
	if _, err := s.Open("../debian", Shared, "login"); err == nil || errors.As(err, &missing) {
		t.Errorf("Open of an invalid name: %v", err)
	}
	if diff := cmp.Diff(before, tree(t, dirs.Runtime)); diff != "" {
		t.Error(diff)
	}
}

// The layout and content that the Python program writes.
func TestPythonState(t *testing.T) {
	s, dirs := newStore(t)
	const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	plant(t, dirs.Runtime, map[string]string{
		"containers/ubuntu/manifest.json": fmt.Sprintf(`{"image_ref": "ubuntu:24.04", "arch": "x86_64", `+
			`"manifest": {"schemaVersion": 2, "_ct": "application/vnd.oci.image.manifest.v1+json", `+
			`"config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": %q, "size": 0}, "layers": []}, `+
			`"image_config": {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}, "later": [1]}`, digest),
		"containers/ubuntu/rootfs/etc/hostname": "u",
		"containers/ubuntu/sysdata/version":     "v",
		"containers/tarball/rootfs/etc/content": "plain",
		"containers/no-rootfs/manifest.json":    "{}",
		"containers/-bad/rootfs/":               "",
		"containers/file":                       "",
		"installed-rootfs/old/etc/hostname":     "o",
		"locks/ubuntu.lock":                     "4194303 login",
		"locks/build/0123456789abcdef.lock":     "4194303 build",
		"sessions/":                             "",
	})
	plant(t, dirs.Cache, map[string]string{"oci_layers/sha256_00": "blob", "oci_manifests/0123456789abcdef.json": "{}"})
	cache := tree(t, dirs.Cache)

	if diff := cmp.Diff([]string{"old", "tarball", "ubuntu"}, names(t, s)); diff != "" {
		t.Error(diff)
	}
	if got := content(t, s, "tarball"); got != "plain" {
		t.Errorf("tarball: %s", got)
	}
	c, err := s.Open("ubuntu", Exclusive, "remove")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r, err := c.Record()
	if err != nil {
		t.Fatal(err)
	}
	if r.ImageRef != "ubuntu:24.04" || r.Arch != platform.X86_64 || string(r.Extra["later"]) != "[1]" {
		t.Errorf("record: %+v", r)
	}
	r.ImageRef = "ubuntu:26.04"
	if err := c.SetRecord(r); err != nil {
		t.Fatal(err)
	}
	again, err := c.Record()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, again); diff != "" {
		t.Error(diff)
	}
	if err := c.Remove(rootfs.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"old", "tarball"}, names(t, s)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(cache, tree(t, dirs.Cache)); diff != "" {
		t.Error(diff)
	}
}

func TestLeftoverGivesWay(t *testing.T) {
	s, dirs := newStore(t)
	plant(t, dirs.Containers(), map[string]string{"debian/manifest.json": "old", "debian/shm/x": "x"})
	var missing *NotFoundError
	if _, err := s.Open("debian", Exclusive, "remove"); !errors.As(err, &missing) {
		t.Errorf("Open: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dirs.Containers(), "debian/manifest.json")); err != nil {
		t.Errorf("Open deleted what only Create may: %v", err)
	}
	install(t, s, "debian", "new")
	want := map[string]string{"debian": "d---------", "debian/rootfs": "d---------", "debian/rootfs/etc": "d---------", "debian/rootfs/etc/content": "new"}
	if diff := cmp.Diff(want, tree(t, dirs.Containers())); diff != "" {
		t.Error(diff)
	}
}

func TestLinksAreNotFollowed(t *testing.T) {
	s, dirs := newStore(t)
	victim := t.TempDir()
	plant(t, victim, map[string]string{"rootfs/etc/content": "victim", "manifest.json": "{}"})
	plant(t, dirs.Containers(), map[string]string{"b/": ""})
	for link, target := range map[string]string{"a": victim, "b/rootfs": filepath.Join(victim, "rootfs")} {
		if err := os.Symlink(target, filepath.Join(dirs.Containers(), link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "b"} {
		if _, err := s.Open(name, Exclusive, "remove"); err == nil || !strings.Contains(err.Error(), filepath.Join(dirs.Containers(), name)) {
			t.Errorf("Open %s: %v", name, err)
		}
		if _, err := s.Create(name, "install"); err == nil || !strings.Contains(err.Error(), "move it away") {
			t.Errorf("Create %s: %v", name, err)
		}
	}
	if got := names(t, s); len(got) != 0 {
		t.Errorf("listed: %v", got)
	}
	if len(tree(t, victim)) != 4 {
		t.Errorf("the victim has changed: %v", tree(t, victim))
	}
	// A whole directory of ours behind a link.
	if err := os.Rename(dirs.Containers(), dirs.Containers()+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, dirs.Containers()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Names(); !errors.Is(err, rootfs.ErrUnsafe) {
		t.Errorf("Names: %v", err)
	}
	if _, err := s.Create("c", "install"); !errors.Is(err, rootfs.ErrUnsafe) {
		t.Errorf("Create: %v", err)
	}
}

func TestHostileRecord(t *testing.T) {
	s, dirs := newStore(t)
	install(t, s, "debian", "x")
	manifest := filepath.Join(dirs.Containers(), "debian", "manifest.json")
	secret := filepath.Join(t.TempDir(), "secret")
	plant(t, filepath.Dir(secret), map[string]string{"secret": "{}"})
	for name, make := range map[string]func() error{
		"FIFO":      func() error { return syscall.Mkfifo(manifest, 0o600) },
		"link":      func() error { return os.Symlink(secret, manifest) },
		"directory": func() error { return os.Mkdir(manifest, 0o700) },
		"no JSON":   func() error { return os.WriteFile(manifest, []byte("\x00"), 0o600) },
		"huge": func() error {
			return errors.Join(os.WriteFile(manifest, nil, 0o600), os.Truncate(manifest, 1<<40))
		},
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		c, err := s.Open("debian", Shared, "login")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Record(); err == nil || !strings.Contains(err.Error(), `manifest.json of container "debian"`) {
			t.Errorf("%s: %v", name, err)
		} else if (name != "no JSON") && !strings.Contains(err.Error(), manifest) {
			t.Errorf("%s: the file is not named: %v", name, err)
		}
		c.Close()
		if err := os.RemoveAll(manifest); err != nil {
			t.Fatal(err)
		}
	}
	c, err := s.Open("debian", Exclusive, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := os.Symlink(secret, manifest); err != nil {
		t.Fatal(err)
	}
	if err := c.SetRecord(&oci.Record{ImageRef: "debian:12", Manifest: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(secret); err != nil || string(data) != "{}" {
		t.Errorf("written through a link: %q, %v", data, err)
	}
}

// A directory nobody can enter: an ordinary user can't even look for rootfs/
// in it, nor move it, before its mode is repaired.
func TestLockedDirectory(t *testing.T) {
	s, dirs := newStore(t)
	install(t, s, "debian", "x")
	for _, dir := range []string{"debian/rootfs/etc", "debian/rootfs", "debian"} {
		if err := os.Chmod(filepath.Join(dirs.Containers(), dir), 0); err != nil {
			t.Fatal(err)
		}
	}
	if got := names(t, s); !slices.Equal(got, []string{"debian"}) {
		t.Errorf("Names: %v", got)
	}
	c, err := s.Open("debian", Exclusive, "remove")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Remove(rootfs.RemoveOptions{}), c.Close()); err != nil {
		t.Fatal(err)
	}
	if got := names(t, s); len(got) != 0 {
		t.Errorf("Names: %v", got)
	}
	noStaging(t, dirs)
}

// On a disk without room for a single file a container can still be removed.
func TestRemoveOnFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	s, dirs := newStore(t)
	if err := os.MkdirAll(dirs.Runtime, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dirs.Runtime, "tmpfs", 0, "nr_inodes=20"); err != nil {
		t.Skipf("mounting is not allowed here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dirs.Runtime, unix.MNT_DETACH) })
	plant(t, dirs.Runtime, map[string]string{"containers/debian/rootfs/file": "x", "locks/debian.lock": ""})
	for i := 0; ; i++ {
		err := os.WriteFile(filepath.Join(dirs.Runtime, "containers/debian/rootfs", fmt.Sprint(i)), nil, 0o600)
		if errors.Is(err, unix.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	c, err := s.Open("debian", Exclusive, "remove")
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	if err := errors.Join(c.Remove(rootfs.RemoveOptions{OnRemove: func(string) { told++ }}), c.Close()); err != nil {
		t.Fatal(err)
	}
	if got := names(t, s); len(got) != 0 || told < 10 {
		t.Errorf("Names: %v, %d removals told", got, told)
	}
}

func TestOrdersThatNeedTheExclusiveLock(t *testing.T) {
	s, _ := newStore(t)
	install(t, s, "debian", "x")
	c, err := s.Open("debian", Shared, "login")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Remove(rootfs.RemoveOptions{}); err == nil {
		t.Error("removed under a shared lock")
	}
	if _, err := c.Recreate(); err == nil {
		t.Error("recreated under a shared lock")
	}
	if err := c.Commit(); err == nil {
		t.Error("committed what is no draft")
	}
}
