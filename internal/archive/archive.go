// Package archive writes containers into backup archives and restores them.
//
// A backup is a tar stream, compressed or not, that holds <name>/manifest.json, for a container
// that was installed from an image, and <name>/rootfs/…. The Python program reads and writes the
// same. Its older versions wrote installed-rootfs/<name>/…, which is still restored.
//
// Everything in a backup belongs to root, but for a container whose files have owners: these are
// recorded, and a PAX record of the entry <name>/rootfs says that they mean something.
//
// An archive is as hostile as a layer: it is applied by package layer, in the trees of drafts that
// take their places only when the whole archive has been read. Until then a container that is
// restored over keeps its content.
package archive

import "errors"

const (
	rootfsDir  = "rootfs"
	recordFile = "manifest.json"
	legacyDir  = "installed-rootfs"
	pluginDir  = "proot-distro" // holds the recipe NAME.sh of a legacy container
)

// The PAX record of a container whose files have owners.
const (
	usernsKey  = "PROOTDISTRO.userns"
	usernsFull = "full"
)

// ErrOwners means that a container has files of several owners, and that this process is not root
// over them.
var ErrOwners = errors.New("its files have owners (--userns full)")

// ErrNotBackup means that an archive does not have the shape of a backup.
var ErrNotBackup = errors.New("this is not a backup of containers")
