package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"proot-distro/internal/rootfs"
)

// Identity is a user of the host, as its kernel knows him.
type Identity struct {
	UID, GID int
	Groups   []int // supplementary
}

// ProcessIdentity is that of this process.
func ProcessIdentity() Identity {
	groups, _ := os.Getgroups() // without them the user has one group fewer to be told of
	return Identity{UID: os.Getuid(), GID: os.Getgid(), Groups: groups}
}

// RegisterAndroid gives the host's user and groups names in a container, aid_NAME: there, ls
// shows the owners of Android's files, and programs that look up their groups find them.
// Account files that the container does not have are not made.
func RegisterAndroid(root *rootfs.FS, id Identity) error {
	user := "aid_" + androidName(id.UID)
	var groups, shadows []string
	gids := slices.Compact(slices.Sorted(slices.Values(append([]int{id.GID}, id.Groups...))))
	for _, gid := range gids {
		name := "aid_" + androidName(gid)
		groups = append(groups, fmt.Sprintf("%s:x:%d:root,%s", name, gid, user))
		shadows = append(shadows, fmt.Sprintf("%s:*::root,%s", name, user))
	}
	for _, file := range []struct {
		name  string
		lines []string
	}{
		{"/etc/passwd", []string{fmt.Sprintf("%s:x:%d:%d:Termux:/:/sbin/nologin", user, id.UID, id.GID)}},
		{"/etc/shadow", []string{user + ":*:18446:0:99999:7:::"}},
		{"/etc/group", groups},
		{"/etc/gshadow", shadows},
	} {
		if err := addAccounts(root, file.name, file.lines); err != nil {
			return fmt.Errorf("register the host's user in %s: %w", file.name, err)
		}
	}
	return nil
}

// addAccounts puts lines at the end of an account file, in place of those of the same names.
func addAccounts(root *rootfs.FS, name string, lines []string) error {
	info, err := root.Stat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode.IsRegular() {
		return nil
	}
	if err != nil {
		return err
	}
	file, err := root.Resolve(name) // a link stays one
	if err != nil {
		return err
	}
	data, err := readLocked(root, file)
	if err != nil {
		return err
	}
	var kept []string
	for line := range strings.SplitSeq(strings.TrimSuffix(string(data), "\n"), "\n") {
		if !slices.ContainsFunc(lines, func(l string) bool { return field(l) == field(line) }) {
			kept = append(kept, line)
		}
	}
	if len(kept) == 1 && kept[0] == "" {
		kept = nil
	}
	text := strings.Join(append(kept, lines...), "\n") + "\n"
	return root.WriteFile(file, []byte(text), info.Mode)
}

// readLocked reads a file even if its mode, 0 for some distributions' shadow, says that only
// root may. Writing it gives it its mode again.
func readLocked(root *rootfs.FS, name string) ([]byte, error) {
	data, err := root.ReadFile(name, maxAccounts)
	if !errors.Is(err, fs.ErrPermission) {
		return data, err
	}
	if root.Chmod(name, 0o600) != nil {
		return nil, err
	}
	return root.ReadFile(name, maxAccounts)
}

// field is the first of a line in an account file.
func field(line string) string {
	name, _, _ := strings.Cut(line, ":")
	return name
}

// androidIDs are those fixed identities that an app can have, as its user or as groups that
// stand for permissions (system/core/libcutils/include/private/android_filesystem_config.h).
var androidIDs = map[int]string{
	0: "root", 1000: "system", 1007: "log", 1011: "adb", 1013: "media", 1015: "sdcard_rw", 1023: "media_rw", 1028: "sdcard_r",
	1077: "external_storage", 1078: "ext_data_rw", 1079: "ext_obb_rw", 2000: "shell", 2001: "cache", 3001: "net_bt_admin",
	3002: "net_bt", 3003: "inet", 3004: "net_raw", 3005: "net_admin", 3006: "net_bw_stats", 3007: "net_bw_acct",
	3009: "readproc", 3010: "wakelock", 3011: "uhid", 3012: "readtracefs", 9997: "everybody", 9998: "misc", 9999: "nobody",
}

// Every user of a phone has identities of its own, of which apps have several ranges.
const (
	androidUser = 100_000 // identities of one user
	androidApps = 10_000  // identities of one range
)

// androidName is the name that Android's C library gives to a user or group, which are the same
// there; the number itself where it has none.
func androidName(id int) string {
	user, app := id/androidUser, id%androidUser
	n := app % androidApps
	switch app / androidApps {
	case 0:
		if name := androidIDs[app]; name != "" && user == 0 {
			return name
		} else if name != "" {
			return fmt.Sprintf("u%d_%s", user, name)
		}
	case 1:
		return fmt.Sprintf("u%d_a%d", user, n)
	case 2:
		return fmt.Sprintf("u%d_a%d_cache", user, n)
	case 3:
		return fmt.Sprintf("u%d_a%d_ext", user, n)
	case 4:
		return fmt.Sprintf("u%d_a%d_ext_cache", user, n)
	case 5:
		return fmt.Sprintf("all_a%d", n)
	case 9:
		return fmt.Sprintf("u%d_i%d", user, n)
	}
	return fmt.Sprint(id)
}
