package doctor

import (
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"proot-distro/internal/container"
	"proot-distro/internal/flock"
	"proot-distro/internal/host"
	"proot-distro/internal/image"
	"proot-distro/internal/rootfs"
)

// containerFacts are what there is, and what killed commands left of containers.
type containerFacts struct {
	Containers   int      `json:"containers"`
	Sessions     int      `json:"sessions"`
	Leftovers    []string `json:"leftovers,omitempty"`
	LeftoverSize int64    `json:"leftover_bytes,omitempty"`

	err error
}

// lookAtContainers also has the records of dead sessions deleted, as any listing has.
func lookAtContainers(h *host.Host, store *container.Store) (f containerFacts) {
	names, err := store.Names()
	if err == nil {
		var sessions []container.Session
		sessions, err = store.Sessions()
		f.Containers, f.Sessions = len(names), len(sessions)
	}
	if err == nil {
		f.Leftovers, err = store.Leftovers()
	}
	f.err = err
	if len(f.Leftovers) == 0 {
		return f
	}
	if state, err := rootfs.Open(h.Dirs.Runtime, rootfs.NoLinks); err == nil {
		defer state.Close()
		f.LeftoverSize = state.Size(filepath.Base(h.Dirs.Staging()))
	}
	return f
}

// cacheFacts are what the cache takes, and what killed builds left beside it.
type cacheFacts struct {
	image.Usage
	Scratch int64 `json:"scratch"` // bytes of killed builds

	err error
}

func lookAtCache(c Config) (f cacheFacts) {
	f.Usage, f.err = c.Cache.Usage()
	state, err := rootfs.Open(c.Host.Dirs.Runtime, rootfs.NoLinks)
	if err != nil {
		return f // nothing is there yet
	}
	defer state.Close()
	scratch := filepath.Base(c.Host.Dirs.Scratch())
	entries, err := state.ReadDir(scratch)
	if err != nil {
		return f
	}
	for _, e := range entries {
		if name := path.Join(scratch, e.Name); !strings.HasSuffix(name, ".lock") && !isLocked(state, name+".lock") {
			f.Scratch += state.Size(name)
		}
	}
	return f
}

func isLocked(state *rootfs.FS, name string) bool {
	lock, err := state.Open(name)
	if err != nil {
		return false
	}
	defer lock.Close()
	free, err := flock.Try(lock, unix.LOCK_SH)
	return err == nil && !free
}
