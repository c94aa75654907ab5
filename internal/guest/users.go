package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

// User is an account of a container, or a bare numeric identity.
type User struct {
	Name     string // the number itself for an identity without an account
	UID, GID int
	Groups   []int  // supplementary; empty when a group was asked for
	Home     string // absolute
	Shell    string // of /etc/passwd; empty when unknown
}

// UserError says why a user or group cannot be used.
type UserError struct {
	Spec  string // as the person wrote it
	Cause string // one clause
}

func (e *UserError) Error() string { return fmt.Sprintf("cannot use user %q: %s", e.Spec, e.Cause) }

// maxAccounts bounds /etc/passwd and /etc/group, in bytes.
const maxAccounts = 4 << 20

const maxID = 1<<31 - 1

// LookupUser finds the user that spec names: name, uid, name:group, uid:gid or a
// mix. Like Docker, it takes an unknown uid with group 0 and home "/", and leaves
// supplementary groups out when a group is given. Without a usable /etc/passwd only
// numbers and "root" are known. Errors are [*UserError].
func LookupUser(root *rootfs.FS, spec string) (User, error) {
	name, group, hasGroup := strings.Cut(spec, ":")
	if name == "" || hasGroup && group == "" || strings.Contains(group, ":") {
		return User{}, &UserError{spec, "it must be NAME, UID, NAME:GROUP or UID:GID"}
	}
	user, err := lookupAccount(root, name)
	if err != nil {
		return User{}, &UserError{spec, err.Error()}
	}
	if hasGroup {
		user.GID, err = lookupGroup(root, group)
		if err != nil {
			return User{}, &UserError{spec, err.Error()}
		}
		return user, nil
	}
	// Membership is a refinement: a container without /etc/group has none.
	if data, err := root.ReadFile("/etc/group", maxAccounts); err == nil {
		user.Groups = memberships(string(data), user)
	}
	return user, nil
}

func lookupAccount(root *rootfs.FS, name string) (User, error) {
	uid, numeric, err := parseID(name)
	if err != nil {
		return User{}, err
	}
	data, err := root.ReadFile("/etc/passwd", maxAccounts)
	if err == nil {
		for line := range strings.SplitSeq(string(data), "\n") {
			user, ok := parsePasswd(line)
			if ok && (numeric && user.UID == uid || !numeric && user.Name == name) {
				return user, nil
			}
		}
	}
	switch {
	case numeric && uid == 0 || name == "root":
		return User{Name: "root", Home: "/root"}, nil
	case numeric:
		return User{Name: name, UID: uid, Home: "/"}, nil
	case errors.Is(err, fs.ErrNotExist):
		return User{}, errors.New("the container has no /etc/passwd, so give a numeric uid or root")
	case err != nil:
		return User{}, fmt.Errorf("the container's /etc/passwd cannot be read (%s), so give a numeric uid or root", report.Cause(err).Error())
	}
	return User{}, fmt.Errorf("there is no user %s in the container's /etc/passwd", quote(name))
}

func lookupGroup(root *rootfs.FS, name string) (int, error) {
	gid, numeric, err := parseID(name)
	if err != nil || numeric {
		return gid, err
	}
	data, err := root.ReadFile("/etc/group", maxAccounts)
	if err != nil {
		return 0, fmt.Errorf("the container's /etc/group cannot be read (%s), so give a numeric gid", report.Cause(err).Error())
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		if g, ok := parseGroup(line); ok && g.name == name {
			return g.gid, nil
		}
	}
	return 0, fmt.Errorf("there is no group %s in the container's /etc/group", quote(name))
}

// parseID tells numbers from names; a number out of range is an error.
func parseID(s string) (id int, numeric bool, err error) {
	if strings.Trim(s, "0123456789") != "" {
		return 0, false, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > maxID {
		return 0, true, fmt.Errorf("the id %s is out of range (0 to %d)", s, maxID)
	}
	return int(n), true, nil
}

// parsePasswd reads one line of passwd(5): name:password:uid:gid:gecos:home:shell.
func parsePasswd(line string) (User, bool) {
	f := strings.Split(line, ":")
	if len(f) != 7 || f[0] == "" || strings.HasPrefix(line, "#") || strings.Contains(line, "\x00") {
		return User{}, false
	}
	uid, ok1, err1 := parseID(f[2])
	gid, ok2, err2 := parseID(f[3])
	if f[2] == "" || f[3] == "" || !ok1 || !ok2 || err1 != nil || err2 != nil {
		return User{}, false
	}
	user := User{Name: f[0], UID: uid, GID: gid, Home: "/", Shell: strings.TrimSuffix(f[6], "\r")}
	if path.IsAbs(f[5]) {
		user.Home = f[5]
	}
	return user, true
}

type group struct {
	name    string
	gid     int
	members []string
}

// parseGroup reads one line of group(5): name:password:gid:member,member.
func parseGroup(line string) (group, bool) {
	f := strings.Split(line, ":")
	if len(f) != 4 || f[0] == "" || f[2] == "" || strings.HasPrefix(line, "#") {
		return group{}, false
	}
	gid, numeric, err := parseID(f[2])
	if !numeric || err != nil {
		return group{}, false
	}
	return group{f[0], gid, strings.Split(strings.TrimSuffix(f[3], "\r"), ",")}, true
}

// maxGroups is the kernel's NGROUPS_MAX.
const maxGroups = 65536

// memberships lists the groups that name the user as a member, the primary one
// left out, each once.
func memberships(groupFile string, user User) []int {
	var gids []int
	seen := map[int]bool{user.GID: true}
	for line := range strings.SplitSeq(groupFile, "\n") {
		g, ok := parseGroup(line)
		if !ok || seen[g.gid] || len(gids) == maxGroups {
			continue
		}
		for _, member := range g.members {
			if member == user.Name {
				seen[g.gid] = true
				gids = append(gids, g.gid)
				break
			}
		}
	}
	return gids
}
