package archive

import (
	"archive/tar"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"proot-distro/internal/l2s"
	"proot-distro/internal/layer"
)

// place is what a name in an archive means.
type place struct {
	container string
	file      string // in the rootfs, "" for its root
	isRecord  bool
	isParent  bool // a directory above: nothing of a container yet
	isDropped bool // there is no use for it here
}

// ownFiles are what package container and the engines keep beside a root filesystem: an archive has
// them when somebody made it with tar, of a container's whole directory.
var ownFiles = []string{"shm", "sysdata", "userns", "no-l2s", "moved-from"}

// locate finds the meaning of a name. Its components are not checked: package layer does that.
func locate(name string) (place, error) {
	parts := strings.FieldsFunc(name, func(c rune) bool { return c == '/' })
	kept := parts[:0]
	for _, part := range parts {
		if part != "." {
			kept = append(kept, part)
		}
	}
	if len(kept) > 0 && kept[0] == legacyDir {
		if len(kept) == 1 {
			return place{isParent: true}, nil
		}
		return place{container: kept[1], file: strings.Join(kept[2:], "/")}, nil
	}
	switch {
	case len(kept) < 2:
		return place{isParent: true}, nil
	case kept[0] == pluginDir && len(kept) == 2 && strings.HasSuffix(kept[1], ".sh"), slices.Contains(ownFiles, kept[1]):
		return place{isDropped: true}, nil
	case kept[1] == rootfsDir:
		return place{container: kept[0], file: strings.Join(kept[2:], "/")}, nil
	case kept[1] == recordFile && len(kept) == 2:
		return place{container: kept[0], isRecord: true}, nil
	}
	return place{}, fmt.Errorf("%w: %q is not below NAME/%s", ErrNotBackup, strings.Join(kept, "/"), rootfsDir)
}

// route is the way of each entry into the draft of its container.
func (r *restore) route(hdr *tar.Header) (layer.Destination, error) {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return layer.Destination{}, nil
	}
	at, err := locate(hdr.Name)
	if err != nil {
		return layer.Destination{}, err
	}
	if at.isParent || at.isDropped {
		if at.isParent && hdr.Typeflag != tar.TypeDir {
			return layer.Destination{}, fmt.Errorf("%w: %q is not below NAME/%s", ErrNotBackup, hdr.Name, rootfsDir)
		}
		return layer.Destination{}, nil
	}
	d, err := r.begin(at.container)
	if err != nil {
		return layer.Destination{}, err
	}
	if at.isRecord {
		if hdr.Typeflag != tar.TypeReg {
			return layer.Destination{}, fmt.Errorf("%w: its %s is not a file", ErrNotBackup, recordFile)
		}
		d.record.Reset()
		return layer.Destination{File: &d.record}, nil
	}
	if err := r.setOwners(d, hdr); err != nil {
		return layer.Destination{}, err
	}
	r.req.Report.Detailf("%s", hdr.Name)
	switch hdr.Typeflag {
	case tar.TypeLink:
		target, err := locate(hdr.Linkname)
		if err != nil || target.container != at.container || target.isRecord || target.isParent || target.isDropped {
			return layer.Destination{}, fmt.Errorf("apply entry %q: hard link to %q, which is not in the same container", hdr.Name, hdr.Linkname)
		}
		hdr.Linkname = target.file
	case tar.TypeSymlink:
		hdr.Linkname = r.reroot(hdr.Linkname, at.container, d.new.Name)
	}
	hdr.Name = at.file
	return layer.Destination{Tree: d.tree, Owners: d.owners}, nil
}

// reroot gives a stand-in of proot's, which archives of the Python program hold as they are, the
// host path that the container will have here.
func (r *restore) reroot(target, archived, name string) string {
	for _, old := range []string{"/containers/" + archived + "/" + rootfsDir, "/" + legacyDir + "/" + archived} {
		if i := strings.Index(target, old+"/"); i >= 0 {
			to := filepath.Join(r.req.Containers, name, rootfsDir)
			if moved, ok := l2s.Reroot(target, []string{target[:i+len(old)]}, to); ok {
				return moved
			}
		}
	}
	return target
}
