package archive

import (
	"path/filepath"
	"strings"
	"testing"

	"proot-distro/internal/container"
)

// Whatever is in an archive, only containers of the names that Restore gives appear, and only when it succeeds.
func FuzzRestore(f *testing.F) {
	for _, entries := range [][]string{
		{"box/manifest.json=" + record, "box/rootfs/", "box/rootfs/f=1", "box/rootfs/g⇒box/rootfs/f"},
		{"installed-rootfs/box/f=1", "installed-rootfs/box/l→../../../../canary", "installed-rootfs/box/l/x=dead"},
		{"a/rootfs/f=1", "b/rootfs/g⇒a/rootfs/f"},
		{"../rootfs/f=1"}, {"box/rootfs/../../x=1"}, {"box/rootfs→/tmp", "box/rootfs/x=1"}, {"./bin/sh=1"},
		{"box/rootfs/d→/", "box/rootfs/d/canary=dead", "box/rootfs/d⇒box/rootfs/d"},
	} {
		f.Add(pack(f, entries...))
	}
	f.Fuzz(func(t *testing.T, archive []byte) {
		w := newWorld(t)
		names, err := w.restore("", archive)
		found, _ := filepath.Glob(filepath.Join(w.dirs.Containers(), "*"))
		if len(found) != len(names) || err != nil && len(names) > 0 {
			t.Errorf("%q were restored, there are %q, %v", names, found, err)
		}
		for _, name := range names {
			if container.ValidateName(name) != nil {
				t.Errorf("a container called %q", name)
			}
		}
		w.untouched(t)
	})
}

// The place of a name never lies above the container, as far as the name says.
func FuzzLocate(f *testing.F) {
	for _, name := range []string{"box/rootfs/etc/passwd", "./box/manifest.json", "installed-rootfs/box/bin", "/", "", "a//b/./c"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		at, err := locate(name)
		if err != nil || at.isParent || at.isDropped {
			return
		}
		if at.container == "" || strings.Contains(at.container, "/") || strings.HasPrefix(at.file, "/") {
			t.Errorf("%q: %+v", name, at)
		}
		if !strings.Contains(name, at.container) || !strings.HasSuffix(strings.Trim(name, "/."), strings.Trim(at.file, "/.")) && !strings.Contains(name, "/") {
			t.Errorf("%q: %+v", name, at)
		}
	})
}
