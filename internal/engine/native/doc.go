// Package native serves an [engine.Spec] with the kernel's own means: namespaces for
// users, mounts, processes, hostname and IPC, as an ordinary user or as root, without
// any other program.
//
// # Processes
//
// This process stays behind as the parent and forwards signals. Its child, the
// supervisor, is the first process of the pid namespace: it builds the guest's mounts,
// forks the guest's first process, reaps, and exits with that one's status, and the
// kernel kills whatever is left. It is no Go program any more but a list of system
// calls, prepared before the fork (see fork.go, plan.go). It dies with its parent.
// It keeps all capabilities of its user namespace, guests never have them all; so
// guests can neither trace it nor reach its memory, which is a copy of this
// process's, nor the files of the host that it has open (see ptrace(2), access checks).
// The guest's process becomes the guest's program by way of a launcher (launcher.go), so that
// /proc/self/exe never leads from a container to this program's file.
//
// # Identity
//
// For an ordinary user the namespace has one user and one group: root, who is the
// caller outside. All files stay the caller's own, as they do under proot. What root
// would do with other IDs succeeds without effect, by a seccomp filter; so package
// managers work, but `su user` stays root. Builds ask for an account of the files that were
// given away (engine.Features.Owners). Another user of the guest is root
// under another number, in a user namespace inside. Supplementary groups cannot be
// had. For real root all IDs are themselves, so that owners can be changed and `su user`
// works. Another user of the guest is who he says he is, but treated as the owner of all
// files, for most are root's on disk, whoever the image meant them for.
//
// # This program in a namespace
//
// [Unshare] runs this program again as root of a new user and mount namespace:
//
//	status, err := native.Unshare(native.SingleID, nil) // or native.AllIDs
//
// so that it can mount (an overlay, for one), or handle files of all the IDs that
// an ordinary user may have. The copy finds [Unshared] true. With native.OwnID it is no root but
// the calling user still, who may mount.
//
// # What holds guests
//
// Files and processes of the host are out of sight, apart from binds; where the host
// is a container that hides parts of /proc, its processes are in sight, and those of the
// caller in reach. The capability
// bounding set is that of Docker, so that guests cannot undo read-only mounts.
// The network is the host's, abstract sockets included.
package native
