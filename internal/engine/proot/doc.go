// Package proot serves an [engine.Spec] through the proot program, which
// traces the guest with ptrace(2) and rewrites the paths in its system calls.
//
// # Generations
//
// proot exists in generations that differ in options and in correctness, and the
// oldest (5.1.0, of 2014) is what most distributions ship. So nothing is taken
// for granted: a binary is probed once, by running it, and what was learnt is
// remembered under [host.Dirs].Probes until the file or the kernel changes. An
// option that the probed binary lacks is an [engine.Unsupported] error.
//
// # System calls that proot does not know
//
// A path in a call that is newer than proot reaches the kernel as it is, and
// the guest acts on the host's file of that name: with 5.1.0, `ls -l /` shows the
// host's root and `mv` may rename in it. Every C library falls back to the older
// call when the kernel answers ENOSYS, so that is what a seccomp filter makes it
// answer, for exactly the calls that the probe saw escape (see filter.go). The
// filter belongs to the thread that becomes proot, or starts it, and to no other.
//
// # Exit status
//
// proot returns the status of whichever process ended last, and 255 for one
// that a signal killed. Where Spec.Shell names a shell of the guest, it stands
// between proot and the command and reports the command's own status through a
// pipe; this process then stays behind as the parent. Without one, as for an
// interactive shell, Exec replaces this process by proot, and what proot returns
// is the best that can be had.
//
// # Identity
//
// User and group are faked by proot for files and processes alike. Supplementary
// groups cannot be: the guest sees the host's, so Spec.User.Groups has no effect.
package proot
