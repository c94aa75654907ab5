// Package container is the store of containers: their names, their locks, the
// record of the image they were made from, and the sessions that run in them.
//
// # Places
//
// Everything lies below one state directory (see [host.Dirs]):
//
//	containers/<name>/rootfs/         the container; without rootfs/ it is not one
//	containers/<name>/manifest.json   its record, missing after a plain-tarball install
//	containers/<name>/shm/            /dev/shm of its guests on Termux
//	containers/<name>/sysdata/        stand-ins for files of /proc that Android hides
//	containers/<name>/userns          "full": its files have owners (see --userns)
//	containers/<name>/no-l2s          it was looked through: no stand-ins for hard links
//	containers/<name>/moved-from      its former place, until a move is complete
//	installed-rootfs/<name>/          a container of older versions, its rootfs itself
//	locks/<name>.lock                 flock(2); content "<pid> <command>" of a holder
//	sessions/<pid>.json               flock(2)ed as long as the session lives
//	staging/<name>                    a container that is being made
//	staging/<name>~old                the one that a new one takes the place of
//	staging/<name>~removed            one that is being deleted
//
// A "~" cannot be part of a name, so these never meet. On Termux a guest can
// write to the state directory; every path below it is therefore walked by a
// [rootfs.FS] that follows no links, and what is read is read with a limit.
//
// # Invariants
//
// Whoever changes containers/<name> or staging/<name>* holds the name's lock
// exclusively; whoever uses the container holds it shared. Lock files are never
// deleted: two processes could otherwise each hold "the" lock.
//
// A container appears, is replaced and disappears by rename(2). A process
// that is killed therefore leaves either the old or the new container, and
// garbage in staging/ at most. Two states need more. One is <name>~old without
// containers/<name>, between the two renames of a replacement: the old one is put
// back; until someone does, [Store.Names] lists it nevertheless. The other is a
// container with moved-from in it: it has been renamed, or its layout is a new one,
// but stand-ins for hard links (see package l2s) may still lead to where it was. Who
// opens it finishes that first.
//
// Locks and sessions belong to open files, not to processes: the engine keeps
// both open in the guest's processes, so a container stays in use, and its session
// alive, until the last background process of the guest has gone.
package container
