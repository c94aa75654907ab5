package stories

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"proot-distro/test/fixtures"
)

// cmdPhone makes a story's environment that of Termux, with a proot that only writes down how it is
// called, or with PROOT:
//
//	phone [PROOT]
//
// PREFIX, HOME and CONTAINERS tell where things are.
func cmdPhone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 1 {
		ts.Fatalf("usage: phone [PROOT]")
	}
	proot := ""
	if len(args) == 1 {
		proot = args[0]
	}
	prefix := ts.MkAbs("files/usr")
	home := ts.MkAbs("files/home")
	ts.Check(errors.Join(fixtures.TermuxPrefix(prefix, proot), os.MkdirAll(home, 0o755)))
	path := ts.Getenv("PATH")
	for _, variable := range fixtures.TermuxEnv(prefix) {
		key, value, _ := strings.Cut(variable, "=")
		ts.Setenv(key, value)
	}
	ts.Setenv("PATH", prefix+"/bin:"+path)
	ts.Setenv("PREFIX", prefix)
	ts.Setenv("HOME", home)
	ts.Setenv("CONTAINERS", filepath.Join(prefix, "var/lib/proot-distro/containers"))
	ts.Setenv("CACHE", filepath.Join(prefix, "var/lib/proot-distro/cache"))
}

// cmdAndroid runs a program as Android lets an app run it, and wants an exit code:
//
//	android CODE PROGRAM [ARG...]
func cmdAndroid(ts *testscript.TestScript, neg bool, args []string) {
	runFiltered(ts, "android", neg, args)
}

// Android's policy is a list of allowed calls: bionic's libc/SYSCALLS.TXT, to which
// libc/SECCOMP_ALLOWLIST_{COMMON,APP}.TXT (…WHITELIST… up to Android 10) add, less
// libc/SECCOMP_BLOCKLIST_{COMMON,APP}.TXT. Everything else is SECCOMP_RET_TRAP, which ends a program
// with SIGSYS. These are the calls that a program as ours could be tempted to make and that some Android
// from 9 to 16 traps. Those of Linux 5.1 and newer are left out: all are trapped here, as most of them
// are everywhere (Android 14 and newer let close_range pass).
var trapped = []uint32{
	unix.SYS_STATX, // since Android 11
	unix.SYS_IO_PGETEVENTS, unix.SYS_PKEY_MPROTECT, unix.SYS_PKEY_ALLOC, unix.SYS_PKEY_FREE,
	unix.SYS_MEMBARRIER, unix.SYS_USERFAULTFD, // since Android 10
	unix.SYS_BPF, unix.SYS_KEXEC_LOAD, unix.SYS_KCMP, unix.SYS_FINIT_MODULE,
	unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_FANOTIFY_INIT, unix.SYS_FANOTIFY_MARK,
	unix.SYS_MBIND, unix.SYS_SET_MEMPOLICY, unix.SYS_GET_MEMPOLICY, unix.SYS_MIGRATE_PAGES, unix.SYS_MOVE_PAGES,
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL, unix.SYS_QUOTACTL, unix.SYS_LOOKUP_DCOOKIE,
	unix.SYS_SHMGET, unix.SYS_SHMAT, unix.SYS_SHMCTL, unix.SYS_SHMDT, unix.SYS_SEMGET, unix.SYS_SEMCTL,
	unix.SYS_MSGGET, unix.SYS_MSGSND, unix.SYS_MSGRCV, unix.SYS_MSGCTL, unix.SYS_MQ_OPEN, unix.SYS_MQ_UNLINK,
	unix.SYS_VHANGUP, unix.SYS_NFSSERVCTL, unix.SYS_GET_ROBUST_LIST,
	// SECCOMP_BLOCKLIST_APP.TXT
	unix.SYS_SETGID, unix.SYS_SETUID, unix.SYS_SETREGID, unix.SYS_SETREUID, unix.SYS_SETRESGID, unix.SYS_SETFSGID,
	unix.SYS_SETFSUID, unix.SYS_SETGROUPS, unix.SYS_ADJTIMEX, unix.SYS_CLOCK_ADJTIME, unix.SYS_CLOCK_SETTIME,
	unix.SYS_SETTIMEOFDAY, unix.SYS_ACCT, unix.SYS_SYSLOG, unix.SYS_CHROOT, unix.SYS_INIT_MODULE, unix.SYS_DELETE_MODULE,
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_SETDOMAINNAME,
	unix.SYS_SETHOSTNAME, unix.SYS_REBOOT,
}

// firstOfMany is the first call of Linux 5.1; from there on all architectures have the same numbers.
const firstOfMany = unix.SYS_PIDFD_SEND_SIGNAL

// guarded are calls that Go's own packages make, and on GOOS=android only behind a guard that turns
// SIGSYS into an error (os.checkPidfdOnce; syscall.Faccessat). The program under test is built for GOOS=linux,
// so the error comes at once. That our code makes none of them is for package archtest to see.
// The shell that stands in for proot is linked with glibc, which calls rseq.
var guarded = []uint32{unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_FACCESSAT2, unix.SYS_RSEQ}

// androidFilter traps and denies. Hard links are denied by Android's SELinux policy with EACCES.
func androidFilter() []unix.SockFilter {
	ret := func(action uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
	}
	equal := func(nr, action uint32) []unix.SockFilter {
		return []unix.SockFilter{{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: nr}, ret(action)}
	}
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // seccomp_data.nr
	for _, nr := range guarded {
		filter = append(filter, equal(nr, unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS))...)
	}
	for _, nr := range append(legacyLinks, unix.SYS_LINKAT) {
		filter = append(filter, equal(nr, unix.SECCOMP_RET_ERRNO|uint32(unix.EACCES))...)
	}
	for _, nr := range trapped {
		filter = append(filter, equal(nr, unix.SECCOMP_RET_TRAP)...)
	}
	return append(filter,
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, Jf: 1, K: firstOfMany},
		ret(unix.SECCOMP_RET_TRAP), ret(unix.SECCOMP_RET_ALLOW))
}
