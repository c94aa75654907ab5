package guest

import (
	"path"

	"proot-distro/internal/platform"
	"proot-distro/internal/rootfs"
)

// ArchHints is where [DetectArch] looks when no shell tells the architecture,
// in the order of the fields. Zero values are skipped.
type ArchHints struct {
	// Prefix is Termux's $PREFIX, below which a container may have its shell.
	Prefix string
	// Manifest is what manifest.json says.
	Manifest platform.Arch
	// Entrypoint names the programs that the image starts.
	Entrypoint []string
	// Host is the answer of last resort.
	Host platform.Arch
}

// DetectArch finds a container's architecture: from the ELF header of the first
// common shell that has one, as the guest resolves its name; then from the hints.
// Scripts and programs for unknown machines are passed over.
func DetectArch(root *rootfs.FS, hints ArchHints) platform.Arch {
	for _, name := range shellsOf(hints.Prefix) {
		if arch := archOf(root, name); arch != "" {
			return arch
		}
	}
	if arch, err := platform.Parse(string(hints.Manifest)); err == nil {
		return arch
	}
	for _, name := range hints.Entrypoint {
		if !path.IsAbs(name) {
			continue
		}
		if arch := archOf(root, name); arch != "" {
			return arch
		}
	}
	return hints.Host
}

func shellsOf(prefix string) []string {
	names := []string{"/usr/bin/bash", "/usr/bin/sh", "/usr/bin/su", "/usr/bin/busybox"}
	if prefix != "" {
		names = append(names, path.Join(prefix, "bin/bash"))
	}
	return append(names, "/bin/bash", "/bin/sh", "/bin/su", "/bin/busybox")
}

// archOf is empty when name is not a program of a known architecture.
func archOf(root *rootfs.FS, name string) platform.Arch {
	f, err := root.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	p, err := readELF(f)
	if err != nil {
		return ""
	}
	return p.arch
}
