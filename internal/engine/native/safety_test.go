package native

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"proot-distro/internal/engine"
	"proot-distro/internal/platform"
)

// serveGuest tries what no program of busybox does.
func serveGuest() {
	say := func(name string, err error) { fmt.Printf("%s: %v\n", name, err) }
	char := byte('x')
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, 0, unix.TIOCSTI, uintptr(unsafe.Pointer(&char)))
	say("TIOCSTI", errno)
	char = 2
	_, _, errno = unix.Syscall(unix.SYS_IOCTL, 0, unix.TIOCLINUX, uintptr(unsafe.Pointer(&char)))
	say("TIOCLINUX", errno)
	say("chown", unix.Chown("/tmp", 12, 34))
	say("setgroups", syscall.Setgroups([]int{1, 2, 3}))
	say("mknod", unix.Mknod("/tmp/null", unix.S_IFCHR|0o666, 1<<8|3))
	say("mkfifo", unix.Mknod("/tmp/fifo", unix.S_IFIFO|0o666, 0))
	_, err := os.Stat("/tmp/fifo")
	say("stat", err)
	say("remount", unix.Mount("", "/ro", "", unix.MS_REMOUNT|unix.MS_BIND, ""))
	say("unmount", unix.Unmount("/ro", unix.MNT_DETACH))
	say("write", os.WriteFile("/ro/file", nil, 0o644))
	say("trace", syscall.PtraceAttach(1))
	_, err = os.Readlink("/proc/1/exe")
	say("exe", errors.Unwrap(err))
	_, err = os.Readlink("/proc/1/fd/1")
	say("fd", errors.Unwrap(err))
	say("setresuid", syscall.Setresuid(12, 12, 12))
	_, err = unix.KeyctlGetKeyringID(unix.KEY_SPEC_USER_KEYRING, false)
	say("keyctl", err)
	_, err = unix.AddKey("user", "name", []byte("x"), unix.KEY_SPEC_PROCESS_KEYRING)
	say("add_key", err)
	_, err = unix.RequestKey("user", "name", "", unix.KEY_SPEC_PROCESS_KEYRING)
	say("request_key", err)
}

// guestSpec runs serveGuest, with the libraries that this test program may need.
func guestSpec(t *testing.T) engine.Spec {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	s := newSpec(newRootfs(t), "/guest.test")
	s.Env = append(s.Env, guestVar+"=1")
	s.Binds = []engine.Bind{{Source: self, Target: "/guest.test", ReadOnly: true}, {Source: t.TempDir(), Target: "/ro", ReadOnly: true}}
	for _, dir := range []string{"/usr", "/lib", "/lib64"} {
		if _, err := os.Stat(dir); err == nil {
			s.Binds = append(s.Binds, engine.Bind{Source: dir, Target: dir, ReadOnly: true})
		}
	}
	return s
}

func TestGuestCannot(t *testing.T) {
	common := `TIOCSTI: operation not permitted
TIOCLINUX: operation not permitted
chown: %v
setgroups: %v
mknod: %v
mkfifo: <nil>
stat: <nil>
remount: operation not permitted
unmount: operation not permitted
write: open /ro/file: read-only file system
trace: operation not permitted
exe: permission denied
fd: permission denied
setresuid: %v
keyctl: function not implemented
add_key: function not implemented
request_key: function not implemented
`
	wantOutput(t, guestSpec(t), fmt.Sprintf(common, nil, nil, nil, nil))
	s := guestSpec(t)
	s.User = engine.User{UID: 1000, GID: 100}
	no, other := unix.EPERM, unix.EPERM
	if os.Getuid() != 0 {
		other = unix.EINVAL // there is no other ID
	}
	wantOutput(t, s, fmt.Sprintf(common, other, no, no, other))
}

// TestConfined has a guest look for the host.
func TestConfined(t *testing.T) {
	s := script(newRootfs(t), `
ls /../../.. /dev
ls /proc/self/fd | wc -l
echo pid $$
kill -0 `+fmt.Sprint(os.Getpid())+` 2>/dev/null && echo reached the host
grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status
touch /sys/x 2>/dev/null || echo /sys is read-only
hostname`)
	s.Hostname = "elsewhere"
	wantOutput(t, s, `/../../..:
bin
dev
etc
only-in-guest
proc
sys
tmp

/dev:
fd
full
null
ptmx
pts
random
shm
stderr
stdin
stdout
tty
urandom
zero
4
pid 2
CapInh:	0000000000000000
CapPrm:	00000000a80425fb
CapEff:	00000000a80425fb
CapBnd:	00000000a80425fb
CapAmb:	0000000000000000
/sys is read-only
elsewhere
`)
}

// TestDevices has a guest change devices of the host's, and use them.
func TestDevices(t *testing.T) {
	before, err := os.Stat("/dev/full")
	must(t, err)
	wantOutput(t, script(newRootfs(t), "chmod 600 /dev/full 2>/dev/null; touch /dev/full 2>/dev/null; echo >/dev/null; head -c 1 /dev/zero | wc -c"), "1\n")
	after, err := os.Stat("/dev/full")
	must(t, err)
	if after.Mode() != before.Mode() || !after.ModTime().Equal(before.ModTime()) {
		_ = os.Chmod("/dev/full", before.Mode())
		t.Errorf("the host's /dev/full has changed: %v, %v", after.Mode(), after.ModTime())
	}
}

// TestMasks has real root look for what tells of the machine, and for what changes it.
func TestMasks(t *testing.T) {
	if os.Getuid() != 0 {
		return // whom the files of the kernel do not belong to
	}
	wantOutput(t, script(newRootfs(t), `
for dir in /sys/firmware /sys/kernel/debug /sys/kernel/tracing /sys/devices/virtual/powercap; do
	if test -d $dir; then ls -A $dir; fi
done
for file in kcore keys latency_stats sched_debug timer_list; do
	if test -e /proc/$file; then cat /proc/$file; fi
done
for file in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/irq/default_smp_affinity /proc/mtrr /proc/dynamic_debug/control; do
	if test -e $file && (echo >>$file) 2>/dev/null; then echo $file can be written; fi
done`), "")
}

func TestExecLeavesNothingOpen(t *testing.T) {
	kept := filepath.Join(t.TempDir(), "kept")
	s := script(newRootfs(t), "ls -l /proc/self/fd /proc/1/fd/ 2>&1")
	out, err := execCommand(t, execRequest{Spec: s, Keep: kept}).CombinedOutput()
	if strings.Contains(string(out), "/etc") || strings.Contains(string(out), kept) || strings.Contains(string(out), "pipe") && strings.Count(string(out), "pipe:") > 2 {
		t.Errorf("the guest has files of the host (%v):\n%s", err, out)
	}
}

// TestBinds mounts at hostile and at missing places of a rootfs.
func TestBinds(t *testing.T) {
	before, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	host := t.TempDir()
	must(t, os.WriteFile(filepath.Join(host, "data"), []byte("data\n"), 0o644))
	root := newRootfs(t)
	// Not below /dev/shm, where TMPDIR may be: there guests have a file system of their own.
	elsewhere, err := os.MkdirTemp("/var/tmp", "pd-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(elsewhere) })
	outside, beside := filepath.Join(elsewhere, "outside"), filepath.Join(elsewhere, "beside")
	must(t, errors.Join(os.Mkdir(outside, 0o755), os.Mkdir(beside, 0o755)))
	must(t, os.Symlink(outside, filepath.Join(root, "absolute")))
	must(t, os.Symlink("../../../../../.."+beside, filepath.Join(root, "relative")))
	s := script(root, "cat /absolute/new/data /relative/new/data /a/b/c /etc/passwd; echo x > /absolute/new/data")
	s.Binds = []engine.Bind{
		{Source: host, Target: "/absolute/new"},
		{Source: host, Target: "/relative/new"},
		{Source: filepath.Join(host, "data"), Target: "/a/b/c"},
		{Source: filepath.Join(host, "data"), Target: "/etc/passwd", ReadOnly: true},
	}
	must(t, os.MkdirAll(filepath.Join(root, outside), 0o755))
	must(t, os.MkdirAll(filepath.Join(root, beside), 0o755))
	wantOutput(t, s, "data\ndata\ndata\ndata\n")
	for _, dir := range []string{outside, beside} {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
			t.Errorf("a link of the rootfs led to the host: %v, %v", entries, err)
		}
	}
	if data, err := os.ReadFile(filepath.Join(host, "data")); string(data) != "x\n" {
		t.Errorf("a guest did not write to a bind: %q, %v", data, err)
	}
	after, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	if string(before) != string(after) {
		t.Errorf("mounts before:\n%s\nafter:\n%s", before, after)
	}
}

// TestLinksOfProot reads and writes a file that proot's emulation of hard links has replaced,
// through a bind of the root filesystem at its path of the host.
func TestLinksOfProot(t *testing.T) {
	root := newRootfs(t)
	must(t, os.Mkdir(filepath.Join(root, ".l2s"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, ".l2s/.l2s.a0001.0002"), []byte("linked\n"), 0o644))
	must(t, os.Symlink(filepath.Join(root, ".l2s/.l2s.a0001.0002"), filepath.Join(root, ".l2s/.l2s.a0001")))
	must(t, os.Symlink(filepath.Join(root, ".l2s/.l2s.a0001"), filepath.Join(root, "a")))
	s := script(root, "cat /a; echo more >> /a; cat /a")
	s.Binds = []engine.Bind{{Source: root, Target: root}}
	wantOutput(t, s, "linked\nlinked\nmore\n")
	s = script(root, "echo more >> /a")
	s.ReadOnly, s.Binds = true, []engine.Bind{{Source: root, Target: root, ReadOnly: true}}
	if out, status := runSpec(t, s); status == 0 || !strings.Contains(out, "Read-only") {
		t.Errorf("a link leads around --read-only: %s", out)
	}
}

func TestUser(t *testing.T) {
	s := script(newRootfs(t), "id -u; id -g; echo $GREETING $PATH; echo $PWD; umask; ls -ln /tmp/new 2>/dev/null; touch /tmp/new && stat -c '%u %g' /tmp/new")
	s.User = engine.User{UID: 1234, GID: 99}
	s.Env = []string{"PATH=/bin", "GREETING=hello world"}
	s.WorkDir = "/tmp"
	old := unix.Umask(0o027)
	defer unix.Umask(old)
	wantOutput(t, s, "1234\n99\nhello world /bin\n/tmp\n0027\n1234 99\n")
}

// TestUserOwnsAll has a user write where root only may, and where real root has put somebody else.
func TestUserOwnsAll(t *testing.T) {
	root := newRootfs(t)
	for name, id := range map[string]int{"home": 1234, "elsewhere": 4321} {
		must(t, os.Mkdir(filepath.Join(root, name), 0o700))
		if os.Getuid() == 0 {
			must(t, os.Chown(filepath.Join(root, name), id, id))
		}
	}
	s := script(root, "for dir in home elsewhere etc; do echo >/$dir/new && chmod 600 /$dir/new && chmod 755 /$dir && cat /$dir/new; done; sh -c 'id -u'")
	s.User = engine.User{UID: 1234, GID: 1234}
	wantOutput(t, s, "\n\n\n1234\n")
}

// changeCircumstances makes this process's machine another one. Some ways need a user
// namespace.
func changeCircumstances(to string) error {
	switch to {
	case "", "allowed":
	case "filtered":
		runtime.LockOSThread()
		return denyNamespaces()
	case "Linux 5.11":
		runtime.LockOSThread()
		return loadFilter(
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_MOUNT_SETATTR},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)})
	case "none left":
		return os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0)
	case "chroot":
		// A root directory that is another one than that of the mount namespace.
		err := unix.Mount("/", os.TempDir(), "", unix.MS_BIND|unix.MS_REC, "")
		return errors.Join(err, unix.Chroot(os.TempDir()))
	case "masked /proc":
		// As container programs do; what is mounted below must not be uncovered.
		return unix.Mount("/dev/null", "/proc/keys", "", unix.MS_BIND, "")
	case hostTable:
		s := engine.Spec{Arch: platform.AArch64, Emulator: emulator}
		err := unix.Mount("binfmt_misc", "/"+binfmtDir, "binfmt_misc", 0, "")
		if err == nil {
			err = os.WriteFile("/"+binfmtDir+"/register", []byte(binfmtEntry(s)), 0)
		}
		if err == nil && !hostStarts(s.Emulator, s.Arch) {
			err = errors.New("the entry does not count")
		}
		return err
	default:
		return fmt.Errorf("no circumstances %q", to)
	}
	return nil
}

// serveProbe probes in other circumstances.
func serveProbe(in string) error {
	if err := changeCircumstances(in); err != nil {
		return err
	}
	_, err := New()
	fmt.Println(err)
	if err != nil && !errors.Is(err, ErrUnavailable) {
		return errors.New("no ErrUnavailable")
	}
	return nil
}

// denyNamespaces has clone(2) fail with EPERM for new user namespaces, as container
// programs have it.
func denyNamespaces() error {
	return loadFilter([]unix.SockFilter{
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 4, K: unix.SYS_CLONE},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 16},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: unix.CLONE_NEWUSER},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
	}...)
}

// loadFilter restricts the calling thread by rules that see the number of a call.
func loadFilter(rules ...unix.SockFilter) error {
	filter := append([]unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}}, rules...)
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	program := &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(program)), 0, 0)
}

func TestProbe(t *testing.T) {
	// This happens in a user namespace, where everyone may deny them to himself.
	for _, tt := range []struct{ how, want string }{
		{"allowed", "<nil>\n"},
		{"filtered", "the native engine cannot be used on this machine: cannot create namespaces: operation not permitted\n"},
		{"none left", "the native engine cannot be used on this machine: cannot create namespaces: no space left on device\n"},
		{"chroot", "the native engine cannot be used on this machine: cannot create namespaces: operation not permitted\n"},
		{"Linux 5.11", "the native engine cannot be used on this machine: cannot make mounts read-only (Linux 5.12): function not implemented\n"},
		{"masked /proc", "<nil>\n"},
	} {
		t.Run(tt.how, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), probeVar+"="+tt.how)
			cmd.SysProcAttr = ownNamespace()
			out, err := cmd.CombinedOutput()
			if string(out) != tt.want {
				t.Errorf("%v: %swant %s", err, out, tt.want)
			}
			if strings.HasPrefix(tt.want, "<nil>") {
				return
			}
			// A session finds it out by itself.
			cmd = execCommand(t, execRequest{Spec: script(newRootfs(t), "echo never"), In: tt.how})
			cmd.SysProcAttr = ownNamespace()
			out, err = cmd.CombinedOutput()
			if string(out) != tt.want {
				t.Errorf("session: %v: %swant %s", err, out, tt.want)
			}
		})
	}
}

// ownNamespace makes a command root of a user namespace.
func ownNamespace() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}

// TestMaskedProc runs a session where a /proc of its own cannot be mounted. It sees the
// host's processes by their numbers, its own one among them, and leaves none behind.
func TestMaskedProc(t *testing.T) {
	s := script(newRootfs(t), `
read self rest < /proc/self/stat
test $self = $$ || echo "/proc shows $self, not $$"
test -s /proc/keys && echo /proc/keys can be read
(sleep 61 & echo $! > /tmp/left) &
wait
exit 9`)
	cmd := execCommand(t, execRequest{Spec: s, In: "masked /proc"})
	cmd.SysProcAttr = ownNamespace()
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 9 || len(out) > 0 {
		t.Errorf("%v, %s", err, out)
	}
	left, err := os.ReadFile(filepath.Join(s.Rootfs, "tmp/left"))
	must(t, err)
	var pid int
	if _, err := fmt.Sscan(string(left), &pid); err != nil || unix.Kill(pid, 0) != unix.ESRCH {
		t.Errorf("process %s is left behind (%v)", left, err)
	}
}

func TestKernelRelease(t *testing.T) {
	s := script(newRootfs(t), "uname -sr; uname -n")
	s.KernelRelease, s.Hostname = "5.4.0-guest", "elsewhere"
	wantOutput(t, s, "Linux 5.4.0-guest\nelsewhere\n")
}
