package guest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	passwd = "root:x:0:0:root:/root:/bin/bash\n" +
		"# a comment\n\nbroken line\n" +
		"neg:x:-1:0::/:\n" +
		"big:x:99999999999999999999:0::/:\n" +
		"www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n" +
		"ann:x:1000:1000:Ann,,,:/home/ann:/bin/zsh\n" +
		"rel:x:1001:1001::home/rel:\r\n"
	groups = "root:x:0:\nadm:x:4:syslog,ann\nbroken\nsudo:x:27:ann\nann:x:1000:ann\nsudo2:x:27:ann\nwww-data:x:33:\n"
)

func TestLookupUser(t *testing.T) {
	full := tree{"etc/passwd": passwd, "etc/group": groups}
	root := User{Name: "root", Home: "/root"}
	ann := User{Name: "ann", UID: 1000, GID: 1000, Groups: []int{4, 27}, Home: "/home/ann", Shell: "/bin/zsh"}
	with := func(u User, gid int) User { u.GID, u.Groups = gid, nil; return u }
	for _, tc := range []struct {
		name string
		tree tree
		spec string
		want User
		err  string // a part of the message
	}{
		{"name", full, "ann", ann, ""},
		{"uid", full, "1000", ann, ""},
		{"name:group", full, "ann:sudo", with(ann, 27), ""},
		{"name:gid", full, "ann:7", with(ann, 7), ""},
		{"uid:gid", full, "1000:7", with(ann, 7), ""},
		{"uid:group", full, "1000:adm", with(ann, 4), ""},
		{"relative home, CRLF", full, "rel", User{Name: "rel", UID: 1001, GID: 1001, Home: "/"}, ""},
		{"unknown uid", full, "4242", User{Name: "4242", UID: 4242, Home: "/"}, ""},
		{"unknown name", full, "bob", User{}, "no user bob in the container's /etc/passwd"},
		{"unknown group", full, "ann:wheel", User{}, "no group wheel in the container's /etc/group"},
		{"malformed id in the file", full, "neg", User{}, "no user neg"},
		{"id of the file out of range", full, "big", User{}, "no user big"},
		{"empty", full, "", User{}, "must be NAME"},
		{"empty group", full, "ann:", User{}, "must be NAME"},
		{"empty user", full, ":7", User{}, "must be NAME"},
		{"three parts", full, "ann:7:8", User{}, "must be NAME"},
		{"uid out of range", full, "2147483648", User{}, "out of range"},
		{"huge uid", full, "99999999999999999999", User{}, "out of range"},
		{"hostile name", full, "a\nb", User{}, `no user "a\nb"`},

		{"no passwd: root", tree{}, "root", root, ""},
		{"no passwd: number", tree{}, "1000:7", User{Name: "1000", UID: 1000, GID: 7, Home: "/"}, ""},
		{"no passwd: name", tree{}, "ann", User{}, "has no /etc/passwd, so give a numeric uid or root"},
		{"no passwd: group name", tree{}, "0:adm", User{}, "/etc/group cannot be read"},
		{"FIFO: root", tree{"etc/passwd": fifo, "etc/group": fifo}, "root", root, ""},
		{"FIFO: name", tree{"etc/passwd": fifo}, "ann", User{}, "/etc/passwd cannot be read"},
		{"1 GiB: root", tree{"etc/passwd": sparse, "etc/group": sparse}, "0", root, ""},
		{"1 GiB: name", tree{"etc/passwd": sparse}, "ann", User{}, "/etc/passwd cannot be read"},
		{"link loop", tree{"etc/passwd": link("passwd")}, "ann", User{}, "/etc/passwd cannot be read"},
		{"link to the host's", tree{"etc/passwd": link("/../../../../../../etc/passwd")}, "root", root, ""},
		{"link within", tree{"etc": link("/real"), "real/passwd": passwd}, "www-data",
			User{Name: "www-data", UID: 33, GID: 33, Home: "/var/www", Shell: "/usr/sbin/nologin"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := LookupUser(tc.tree.open(t), tc.spec)
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Fatalf("error %v, want %q", err, tc.err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzAccounts(f *testing.F) {
	f.Add(passwd)
	f.Add(groups)
	f.Add("a:b:0:0:::\x00")
	f.Fuzz(func(t *testing.T, data string) {
		for line := range strings.SplitSeq(data, "\n") {
			if u, ok := parsePasswd(line); ok {
				if u.Name == "" || u.UID < 0 || u.GID < 0 || u.UID > maxID || !strings.HasPrefix(u.Home, "/") ||
					strings.ContainsAny(u.Name+u.Home+u.Shell, "\x00\n") {
					t.Errorf("%q gave %+v", line, u)
				}
			}
		}
		for _, gid := range memberships(data, User{Name: "ann", GID: 5}) {
			if gid < 0 || gid == 5 || gid > maxID {
				t.Errorf("gid %d", gid)
			}
		}
	})
}
