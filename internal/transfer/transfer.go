// Package transfer copies files between two trees: the host and a container, two
// containers, or two places of one.
//
// [Copy], [Sync] and [Clone] are one walk under different rules. Each end is found
// once: on the host by the host's rules, in a container as its guest would find it.
// From then on there are only open directories and single names in them, and no
// link is followed: whatever a guest swaps while we work, nothing is read or
// written outside of the two trees.
//
// # What a copy is
//
// Modes, modification times, link targets and holes are kept. Ownership is not: a
// copy belongs to who makes it, and therefore loses the setuid or setgid bit of a
// file that belongs to somebody else, as all of a container's are to the host. Devices, FIFOs and sockets stay behind. A
// link2symlink stand-in is copied as the file it means.
//
// A file appears under its name complete or not at all (but see [Clone], whose
// whole tree does). What cannot be read is warned about and counted
// ([IncompleteError]); what cannot be written ends the transfer.
//
// One goroutine walks, makes directories and links (several, where a sync only compares);
// others copy files. A directory gets its mode and time when the last of its files is done.
package transfer

import (
	"fmt"
	"strings"

	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

// End is one end of a transfer.
type End struct {
	Container string     // its name; empty for the host
	Root      *rootfs.FS // its root filesystem; nil for the host
	Path      string     // as the guest, or the host, understands it
}

// String gives the end as a person writes it.
func (e End) String() string { return e.at(e.Path) }

// at gives another path of the same tree in that form.
func (e End) at(path string) string {
	if e.Root == nil {
		return path
	}
	return e.Container + ":/" + strings.TrimLeft(path, "/")
}

// Options are what Copy, Sync and Clone share.
type Options struct {
	Report report.Reporter
	// Measure goes through the source first, so that progress can tell the
	// remaining time.
	Measure bool
	// NoProgress begins no progress line.
	NoProgress bool
}

// Result counts what was done.
type Result struct {
	Copied  int64 // files and links
	Bytes   int64 // in copied files, holes included
	Same    int64 // entries that were up to date already
	Deleted int64 // entries of the destination
	Skipped int64 // devices, FIFOs and sockets
	Renamed bool  // a move that needed no copy
}

// IncompleteError says that a transfer went through but left something out, each
// of which was warned about.
type IncompleteError struct {
	Count int64
	Kept  bool // the source of a move, which therefore was not deleted
}

func (e *IncompleteError) Error() string {
	text := "1 entry could not be copied"
	if e.Count != 1 {
		text = fmt.Sprintf("%d entries could not be copied", e.Count)
	}
	if e.Kept {
		text += ", so the source was kept"
	}
	return text
}
