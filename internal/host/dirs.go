package host

import "path/filepath"

// Dirs names every place where state is kept (the user guide's "Storage
// layout"). The Python program uses the same ones, but for Staging and Probes.
type Dirs struct {
	Runtime string // containers, locks, sessions
	Cache   string // layers and manifests
}

// Containers holds one directory a container.
func (d Dirs) Containers() string { return filepath.Join(d.Runtime, "containers") }

// Legacy holds root filesystems in the layout of older versions.
func (d Dirs) Legacy() string { return filepath.Join(d.Runtime, "installed-rootfs") }

// Locks holds <name>.lock and build/<key>.lock.
func (d Dirs) Locks() string { return filepath.Join(d.Runtime, "locks") }

// Sessions holds <pid>.json of every running login and run.
func (d Dirs) Sessions() string { return filepath.Join(d.Runtime, "sessions") }

// Staging holds containers that are being made; a rename into Containers
// commits them.
func (d Dirs) Staging() string { return filepath.Join(d.Runtime, "staging") }

// Scratch holds a directory for each running build, beside its lock, <id>.lock.
func (d Dirs) Scratch() string { return filepath.Join(d.Runtime, "build") }

// Layers holds sha256_<hex> blobs.
func (d Dirs) Layers() string { return filepath.Join(d.Cache, "oci_layers") }

// Manifests holds <key>.json of every resolved image.
func (d Dirs) Manifests() string { return filepath.Join(d.Cache, "oci_manifests") }

// Probes holds what was learnt about a proot binary.
func (d Dirs) Probes() string { return filepath.Join(d.Cache, "probes") }
