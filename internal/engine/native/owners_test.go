package native

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
	"proot-distro/internal/seccomp"
)

// give is a way to give the file at a path of /own away, as IDs 1 and 2.
var give = []struct {
	name string
	do   func(file string) error
	want string // owner and mode afterwards
}{
	{"chown", func(f string) error { return unix.Chown(f, 1, 2) }, "1:2 644"},
	{"lchown", func(f string) error { return unix.Lchown(f, 1, 2) }, "1:2 644"},
	{"fchown", func(f string) error { return unix.Fchown(opened(f, unix.O_RDONLY), 1, 2) }, "1:2 644"},
	{"fchownat", func(f string) error {
		return unix.Fchownat(opened("/own", unix.O_RDONLY), filepath.Base(f), 1, 2, 0)
	}, "1:2 644"},
	{"dir-ignored", func(f string) error { return unix.Fchownat(99, f, 1, 2, unix.AT_EMPTY_PATH) }, "1:2 644"},
	{"empty-path", func(f string) error {
		return unix.Fchownat(opened(f, unix.O_RDONLY), "", 1, 2, unix.AT_EMPTY_PATH)
	}, "1:2 644"},
	{"by-o-path", func(f string) error {
		return unix.Fchownat(opened(f, unix.O_PATH), "", 1, 2, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW)
	}, "1:2 644"},
	{"relative", func(f string) error { return unix.Chown(filepath.Base(f), 1, 2) }, "1:2 644"},
	{"up", func(f string) error { return unix.Chown("./..//own/./"+filepath.Base(f), 1, 2) }, "1:2 644"},
	{"above-root", func(f string) error { return unix.Chown("/../../.."+f, 1, 2) }, "1:2 644"},
	{"linked", func(f string) error { return unix.Chown(link(f, f), 1, 2) }, "1:2 644"},
	{"linked-twice", func(f string) error { return unix.Chown(link(f+".1", link(f, filepath.Base(f))), 1, 2) }, "1:2 644"},
	{"linked-on-the-way", func(f string) error { return unix.Chown(link(f, "../../own/.")+"/"+filepath.Base(f), 1, 2) }, "1:2 644"},
	{"link-itself", func(f string) error {
		return errors.Join(os.Remove(f), os.Symlink("linked", f), unix.Lchown(f, 1, 2), unix.Fchownat(unix.AT_FDCWD, f, unchanged, 3, unix.AT_SYMLINK_NOFOLLOW))
	}, "1:3 777"},
	{"proc-self", func(f string) error {
		return unix.Chown(fmt.Sprintf("/proc/self/fd/%d", opened(f, unix.O_RDONLY)), 1, 2)
	}, "1:2 644"},
	{"proc-thread", func(f string) error {
		return unix.Chown(fmt.Sprintf("/proc/thread-self/fd/%d", opened(f, unix.O_RDONLY)), 1, 2)
	}, "1:2 644"},
	{"dev-fd", func(f string) error { return unix.Chown(fmt.Sprintf("/dev/fd/%d", opened(f, unix.O_RDONLY)), 1, 2) }, "1:2 644"},
	{"proc-cwd", func(f string) error { return unix.Chown("/proc/self/cwd/"+filepath.Base(f), 1, 2) }, "1:2 644"},
	{"proc-root", func(f string) error { return unix.Chown("/proc/self/root"+f, 1, 2) }, "1:2 644"},
	{"user-then-group", func(f string) error { return errors.Join(unix.Chown(f, 1, unchanged), unix.Chown(f, unchanged, 2)) }, "1:2 644"},
	{"user-only", func(f string) error { return unix.Chown(f, 1, unchanged) }, "1:0 644"},
	{"nothing", func(f string) error { return unix.Chown(f, unchanged, unchanged) }, "0:0 644"},
	{"to-root", func(f string) error { return errors.Join(unix.Chown(f, 1, 2), unix.Chown(f, 0, 0)) }, "0:0 644"},
	{"largest", func(f string) error { return unix.Chown(f, 65534, 65534) }, "65534:65534 644"},
	{"renamed", func(f string) error {
		return errors.Join(unix.Chown(f, 1, 2), os.Rename(f, f+".x"), os.Rename(f+".x", f))
	}, "1:2 644"},
	{"other-name", func(f string) error { return errors.Join(os.Link(f, f+".x"), unix.Chown(f+".x", 1, 2)) }, "1:2 644"},
	{"made-again", func(f string) error {
		// A filesystem that knows births counts them in clock ticks.
		return errors.Join(unix.Chown(f, 1, 2), os.Remove(f), pause(), os.WriteFile(f, nil, 0o644))
	}, "0:0 644"},
	{"setuid", func(f string) error { return errors.Join(unix.Chmod(f, 0o6755), unix.Chown(f, 1, 2)) }, "1:2 755"},
	{"directory", func(f string) error {
		return errors.Join(os.Remove(f), unix.Mkdir(f, 0o755), unix.Chmod(f, 0o2775), unix.Chown(f+"/", 1, 2))
	}, "1:2 2775"},
	{"closed", func(f string) error {
		return errors.Join(os.Remove(f), unix.Mkdir(f, 0o755), os.WriteFile(f+"/x", nil, 0o644), unix.Chmod(f, 0),
			unix.Chown(f+"/x", 1, 2), unix.Rename(f+"/x", f+".x"), unix.Rmdir(f), unix.Rename(f+".x", f))
	}, "1:2 644"},
	{"after-chroot", func(f string) error {
		return errors.Join(os.MkdirAll(f+".root/own", 0o755), os.Rename(f, f+".root/own/x"), os.Symlink("/own/x", f+".root/link"),
			inChroot(f+".root", func() error { return unix.Chown("/../link", 1, 2) }), os.Rename(f+".root/own/x", f))
	}, "1:2 644"},
}

// wrong are calls that fail.
var wrong = []struct {
	name string
	do   func() error
	want error
}{
	{"missing", func() error { return unix.Chown("/own/missing", 1, 2) }, unix.ENOENT},
	{"dangling", func() error { return unix.Chown(link("/own/nowhere", "/own/missing"), 1, 2) }, unix.ENOENT},
	{"missing on the way", func() error { return unix.Chown("/own/missing/chown", 1, 2) }, unix.ENOENT},
	{"below a file", func() error { return unix.Chown("/own/chown/x", 1, 2) }, unix.ENOTDIR},
	{"a file's slash", func() error { return unix.Lchown("/own/chown/", 1, 2) }, unix.ENOTDIR},
	{"loop", func() error { return unix.Chown(link("/own/loop", "loop.link"), 1, 2) }, unix.ELOOP},
	{"empty path", func() error { return unix.Chown("", 1, 2) }, unix.ENOENT},
	{"too long", func() error { return unix.Chown(strings.Repeat("/own/..", 1000), 1, 2) }, unix.ENAMETOOLONG},
	{"name too long", func() error { return unix.Chown("/own/"+strings.Repeat("x", 300), 1, 2) }, unix.ENAMETOOLONG},
	{"bad address", func() error { return rawChown(1) }, unix.EFAULT},
	{"closed file", func() error { return unix.Fchown(99, 1, 2) }, unix.EBADF},
	{"negative file", func() error { return unix.Fchown(unix.AT_FDCWD, 1, 2) }, unix.EBADF},
	{"closed directory", func() error { return unix.Fchownat(99, "x", 1, 2, 0) }, unix.EBADF},
	{"file as directory", func() error { return unix.Fchownat(opened("/own/chown", unix.O_RDONLY), "x", 1, 2, 0) }, unix.ENOTDIR},
	{"strange flags", func() error { return unix.Fchownat(unix.AT_FDCWD, "/own/chown", 1, 2, 1) }, unix.EINVAL},
	{"read-only", func() error { return unix.Chown("/ro/file", 1, 2) }, unix.EROFS},
	{"another's file", func() error { return unix.Chown("/proc/1/root/own/chown", 1, 2) }, unix.EACCES},
	{"device of the host", func() error { return ignore(unix.Chown("/dev/null", 0, 0), unix.EROFS, "REAL") }, nil},
}

// ignore makes nothing of an error where a variable is set.
func ignore(err, harmless error, variable string) error {
	if os.Getenv(variable) != "" && errors.Is(err, harmless) {
		return nil
	}
	return err
}

// unchanged is -1 of chown(2).
const unchanged = -1

func opened(file string, flags int) int {
	fd, err := unix.Open(file, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		fmt.Println("open", file, err)
	}
	return fd
}

// link makes a link with a name of its own.
func link(name, target string) string {
	if err := os.Symlink(target, name+".link"); err != nil {
		fmt.Println(err)
	}
	return name + ".link"
}

func pause() error { time.Sleep(20 * time.Millisecond); return nil }

// inChroot changes the root directory of this process for a while.
func inChroot(dir string, do func() error) error {
	back := opened("/", unix.O_RDONLY)
	return errors.Join(unix.Chroot(dir), unix.Chdir("/"), do(), unix.Fchdir(back), unix.Chroot("."), unix.Chdir("/own"))
}

func rawChown(address uintptr) error {
	_, _, errno := unix.Syscall6(unix.SYS_FCHOWNAT, uintptr(0xffffff9c), address, 1, 2, 0, 0)
	return errno
}

// serveChown is the guest of TestOwners.
func serveChown() {
	fmt.Print(os.Chdir("/own"))
	syscall.Umask(0o022)
	for _, g := range give {
		file := "/own/" + g.name
		if err := errors.Join(os.WriteFile(file, nil, 0o644), g.do(file)); err != nil {
			fmt.Printf("\n%s: %v", g.name, err)
		}
	}
	for _, w := range wrong {
		if err := w.do(); !errors.Is(err, w.want) {
			fmt.Printf("\n%s: %v, want %v", w.name, err, w.want)
		}
	}
}

// TestOwners has a guest give files away in all ways. Real root's guest does it really.
func TestOwners(t *testing.T) {
	s := guestSpec(t)
	must(t, os.Mkdir(filepath.Join(s.Rootfs, "own"), 0o755))
	must(t, os.WriteFile(filepath.Join(s.Binds[1].Source, "file"), nil, 0o644))
	s.Env[len(s.Env)-1] = guestVar + "=chown"
	if os.Getuid() == 0 {
		s.Env = append(s.Env, "REAL=1")
	}
	s.Features.Owners = map[string]engine.Owner{}
	ownerOf := runKeeper(t, s, "<nil>")
	for _, g := range give {
		info, err := os.Lstat(filepath.Join(s.Rootfs, "own", g.name))
		must(t, err)
		who := ownerOf("own/"+g.name, engine.Owner{})
		mode := info.Sys().(*syscall.Stat_t).Mode & 0o7777
		if got := fmt.Sprintf("%d:%d %o", who.UID, who.GID, mode); got != g.want {
			t.Errorf("%s: %s, want %s", g.name, got, g.want)
		}
	}
	if who := ownerOf("own/linked", engine.Owner{}); who != (engine.Owner{UID: 1, GID: 2}) {
		t.Errorf("what a link leads to belongs to %v", who)
	}
}

// runKeeper runs a guest and gives a function that tells owners of paths below the rootfs.
func runKeeper(t *testing.T, s engine.Spec, output string) func(name string, before engine.Owner) engine.Owner {
	t.Helper()
	p, err := newEngine(t).Prepare(s)
	must(t, err)
	var out bytes.Buffer
	status, err := p.Run(context.Background(), engine.Stdio{Out: &out, Err: &out})
	if err != nil || status != 0 || out.String() != output {
		t.Errorf("error %v, status %d, output %s", err, status, out.String())
	}
	return func(name string, before engine.Owner) engine.Owner {
		t.Helper()
		full := filepath.Join(s.Rootfs, name)
		who, known := p.(engine.OwnerKeeper).OwnerAfter(unix.AT_FDCWD, full, before)
		if known != (os.Geteuid() != 0) {
			t.Fatalf("%s: known %v", name, known)
		}
		if !known {
			info, err := os.Lstat(full)
			must(t, err)
			st := info.Sys().(*syscall.Stat_t)
			who = engine.Owner{UID: int(st.Uid), GID: int(st.Gid)}
		}
		return who
	}
}

// TestOwnersBefore has files that belonged to others before.
func TestOwnersBefore(t *testing.T) {
	if os.Geteuid() == 0 {
		return // on its disk they just do; TestMain repeats this as an ordinary user
	}
	s := script(newRootfs(t), `cd /own
echo more >>changed; chown 0:0 taken; chown 5:6 shared; mv moved elsewhere; rm gone
touch new; chown 0:0 new; mv new replaced
touch given; chown 7:8 given; mv given better
rm again; touch again; rm -r tree; mkdir tree
cp -p changed other; cp -p original copy; mkdir sub; cp -p original sub`)
	must(t, os.Mkdir(filepath.Join(s.Rootfs, "own"), 0o755))
	s.Features.Owners = map[string]engine.Owner{"/own/never-there": {UID: 1, GID: 1}}
	before := engine.Owner{UID: 3, GID: 4}
	for _, name := range []string{"changed", "taken", "shared", "moved", "gone", "replaced", "better", "again", "original"} {
		must(t, os.WriteFile(filepath.Join(s.Rootfs, "own", name), nil, 0o644))
		s.Features.Owners["/own/"+name] = before
	}
	must(t, os.Mkdir(filepath.Join(s.Rootfs, "own/tree"), 0o755))
	s.Features.Owners["/own/tree"] = before
	must(t, os.Chtimes(filepath.Join(s.Rootfs, "own/original"), time.Unix(1, 0), time.Unix(1, 0)))
	time.Sleep(20 * time.Millisecond) // births are counted in ticks
	ownerOf := runKeeper(t, s, "")
	got := map[string]engine.Owner{}
	want := map[string]engine.Owner{
		"changed": before, "taken": {}, "shared": {UID: 5, GID: 6}, "elsewhere": before,
		"replaced": before, "better": {UID: 7, GID: 8}, "again": {}, "tree": {},
		"other": {}, "copy": {}, "sub/original": before,
	}
	for name := range want {
		was := engine.Owner{}
		if _, known := s.Features.Owners["/own/"+name]; known {
			was = before
		}
		got[name] = ownerOf("own/"+name, was)
	}
	if !maps.Equal(got, want) {
		t.Errorf("owners %v, want %v", got, want)
	}
}

// TestLook has files that look like others from before.
func TestLook(t *testing.T) {
	file := func(inode uint64, size uint64, nanoseconds uint32) *unix.Statx_t {
		return &unix.Statx_t{Ino: inode, Mode: unix.S_IFREG | 0o644, Size: size, Mtime: unix.StatxTimestamp{Sec: 1, Nsec: nanoseconds}}
	}
	o := &owners{files: map[inode]owned{}, looks: map[look]engine.Owner{}}
	one, two := engine.Owner{UID: 1, GID: 1}, engine.Owner{UID: 2, GID: 2}
	o.add(file(1, 10, 0), "a", one, false)
	o.add(file(2, 10, 5), "b", two, false)
	o.add(file(3, 10, 6), "c", one, false)
	o.add(file(4, 10, 6), "d", two, false)
	tests := []struct {
		name string
		st   *unix.Statx_t
		want engine.Owner
	}{
		{"a", file(10, 10, 0), one},
		{"renamed", file(11, 10, 0), engine.Owner{}},
		{"a-", file(17, 10, 0), one},
		{"renamed", file(12, 10, 5), two},
		{"b", file(13, 11, 5), engine.Owner{}},
		{"c", file(14, 10, 6), one},
		{"of-either", file(15, 10, 6), engine.Owner{}},
		{"given", file(16, 10, 0), engine.Owner{UID: 5}},
	}
	o.give(fileID{inode: inode{ino: 16}}, fileID{inode: inode{ino: 16}}, 5, 0)
	for _, tt := range tests {
		if who := o.owner(tt.st, tt.name, engine.Owner{}); who != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, who, tt.want)
		}
	}
}

// TestRealStreams has a user who is one to the kernel, too, write through the names of its streams.
func TestRealStreams(t *testing.T) {
	s := script(newRootfs(t), "id -u; echo out >/dev/stdout; echo wrong >/dev/stderr; touch /file 2>/dev/null || echo refused")
	s.User, s.AllIDs = engine.User{UID: 1000, GID: 1000}, true
	p, err := newEngine(t).Prepare(s)
	if os.Geteuid() != 0 { // who has one ID
		if !errors.Is(err, errNeedsAllIDs) {
			t.Errorf("error %v", err)
		}
		return
	}
	must(t, err)
	must(t, os.Chmod(s.Rootfs, 0o755))
	var out bytes.Buffer
	if _, err := p.Run(context.Background(), engine.Stdio{Out: &out, Err: &out}); err != nil || out.String() != "1000\nout\nwrong\nrefused\n" {
		t.Errorf("error %v, output %s", err, out.String())
	}
}

// TestGift reads calls of tables that this machine may not have.
func TestGift(t *testing.T) {
	tests := []struct {
		name     string
		arch, nr uint32
		args     [6]uint64
		want     gift
	}{
		{"chown", unix.AUDIT_ARCH_X86_64, 92, [6]uint64{7, 1, 0xffffffff}, gift{dir: unix.AT_FDCWD, path: 7, uid: 1, gid: noID}},
		{"chown16", unix.AUDIT_ARCH_I386, 182, [6]uint64{7, 0x10001, 0xffff}, gift{dir: unix.AT_FDCWD, path: 7, uid: 1, gid: noID}},
		{"lchown16", unix.AUDIT_ARCH_ARM, 16, [6]uint64{7, 0xffff, 65534},
			gift{dir: unix.AT_FDCWD, path: 7, uid: noID, gid: 65534, flags: unix.AT_SYMLINK_NOFOLLOW}},
		{"chown32", unix.AUDIT_ARCH_I386, 212, [6]uint64{7, 0xffff, 3}, gift{dir: unix.AT_FDCWD, path: 7, uid: 0xffff, gid: 3}},
		{"fchown16", unix.AUDIT_ARCH_ARM, 95, [6]uint64{4, 2, 3}, gift{dir: 4, uid: 2, gid: 3}},
		{"fchown", unix.AUDIT_ARCH_RISCV64, 55, [6]uint64{0xffffffff, 2, 3}, gift{dir: -1, uid: 2, gid: 3}},
		{"fchownat", unix.AUDIT_ARCH_AARCH64, 54, [6]uint64{0xffffff9c, 7, 2, 3, 0x1000},
			gift{dir: unix.AT_FDCWD, path: 7, uid: 2, gid: 3, flags: unix.AT_EMPTY_PATH}},
	}
	for _, tt := range tests {
		c, ok := chownOf(tt.arch, tt.nr)
		if got := c.gift(tt.args); !ok || got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
	for _, nr := range []uint32{0, 1, 90} {
		if _, ok := chownOf(unix.AUDIT_ARCH_X86_64, nr); ok {
			t.Errorf("call %d is taken for one", nr)
		}
	}
	var covered int
	for _, c := range chownCalls {
		for a := range seccomp.ABIs {
			if c.numbers[a] != 0 {
				covered++
			}
		}
	}
	if covered != 4+7+7+2+2 {
		t.Errorf("%d calls", covered)
	}
}

// BenchmarkChown is one chown -R over 20,000 files.
func BenchmarkChown(b *testing.B) {
	root := newRootfs(b)
	for d := range 200 {
		dir := filepath.Join(root, "own", fmt.Sprintf("dir-%d", d))
		must(b, os.MkdirAll(dir, 0o755))
		for f := range 100 {
			must(b, os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%d", f)), nil, 0o644))
		}
	}
	e, err := New()
	must(b, err)
	for _, owners := range []map[string]engine.Owner{nil, {}} {
		b.Run(fmt.Sprintf("followed=%t", owners != nil), func(b *testing.B) {
			for b.Loop() {
				s := newSpec(root, "/bin/chown", "-R", "12:34", "/own")
				s.Features.Owners = owners
				p, err := e.Prepare(s)
				must(b, err)
				if status, err := p.Run(context.Background(), engine.Stdio{Err: os.Stderr}); err != nil || status != 0 {
					b.Fatalf("status %d, %v", status, err)
				}
			}
		})
	}
}
