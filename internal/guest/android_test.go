package guest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proot-distro/internal/rootfs"
)

func TestRegisterAndroid(t *testing.T) {
	dir := t.TempDir()
	etc := filepath.Join(dir, "etc")
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(etc, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if err := errors.Join(
		os.Mkdir(etc, 0o755),
		os.WriteFile(filepath.Join(etc, "passwd"), []byte("root:x:0:0::/root:/bin/sh"), 0o644), // no newline at the end
		os.WriteFile(filepath.Join(etc, "group.real"), []byte("root:x:0:\naid_inet:x:1:\n"), 0o644),
		os.Symlink("/etc/group.real", filepath.Join(etc, "group")),
		os.WriteFile(filepath.Join(etc, "shadow"), nil, 0), // as Fedora has it
	); err != nil {
		t.Fatal(err)
	}
	root, err := rootfs.Open(dir, rootfs.GuestLinks)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	id := Identity{UID: 10123, GID: 10123, Groups: []int{3003, 9997, 20123, 50123, 10123}}
	for range 2 { // reset and restore come again
		if err := RegisterAndroid(root, id); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(filepath.Join(etc, "shadow")); err != nil || info.Mode() != 0 {
		t.Errorf("shadow: %v, %v", info.Mode(), err)
	}
	if err := os.Chmod(filepath.Join(etc, "shadow"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"passwd": "root:x:0:0::/root:/bin/sh\naid_u0_a123:x:10123:10123:Termux:/:/sbin/nologin\n",
		"shadow": "aid_u0_a123:*:18446:0:99999:7:::\n",
		"group.real": "root:x:0:\naid_inet:x:3003:root,aid_u0_a123\naid_everybody:x:9997:root,aid_u0_a123\n" +
			"aid_u0_a123:x:10123:root,aid_u0_a123\naid_u0_a123_cache:x:20123:root,aid_u0_a123\naid_all_a123:x:50123:root,aid_u0_a123\n",
	} {
		if diff := cmp.Diff(want, read(name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if target, err := os.Readlink(filepath.Join(etc, "group")); err != nil || target != "/etc/group.real" {
		t.Errorf("group is a link to %q, %v", target, err)
	}
	if _, err := os.Lstat(filepath.Join(etc, "gshadow")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("gshadow: %v", err)
	}
}

func TestAndroidNames(t *testing.T) {
	for id, want := range map[int]string{
		0: "root", 3003: "inet", 10000: "u0_a0", 1010123: "u10_a123", 30001: "u0_a1_ext", 40001: "u0_a1_ext_cache", 50001: "all_a1",
		99001: "u0_i9001", 1003003: "u10_inet", 65534: "65534", 12: "12",
	} {
		if got := androidName(id); got != want {
			t.Errorf("androidName(%d) = %q, want %q", id, got, want)
		}
	}
}
