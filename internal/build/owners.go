package build

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"

	"proot-distro/internal/engine"
	"proot-distro/internal/rootfs"
)

// owner is a user and a group of the image.
type owner struct{ uid, gid int }

// owners are the entries of a tree, by guest path without links, that do not belong to root, or did not.
// On disk all files are the caller's, unless Builder.AllIDs.
type owners map[string]owner

// MarshalJSON makes {"/path": [uid, gid]}.
func (o owners) MarshalJSON() ([]byte, error) {
	plain := make(map[string][2]int, len(o))
	for name, who := range o {
		plain[name] = [2]int{who.uid, who.gid}
	}
	return json.Marshal(plain)
}

// parseOwners reads what MarshalJSON made.
func parseOwners(data []byte) (owners, error) {
	var plain map[string][2]int
	if err := json.Unmarshal(data, &plain); err != nil {
		return nil, fmt.Errorf("read owners: %w", err)
	}
	o := make(owners, len(plain))
	for name, who := range plain {
		o[name] = owner{who[0], who[1]}
	}
	return o, nil
}

// set keeps the table small: most files are root's. One that becomes root's stays in it, as the disk may have to follow.
func (o owners) set(name string, who owner) {
	if _, known := o[name]; known || who != (owner{}) {
		o[name] = who
	}
}

// header learns from a layer's entry what it does to the table. Directories and files that
// came through a link in a parent are missed: layers name them by their real paths.
func (o owners) header(h *tar.Header) {
	name := path.Clean("/" + h.Name)
	dir, base := path.Split(name)
	switch hidden, isWhiteout := strings.CutPrefix(base, ".wh."); {
	case base == ".wh..wh..opq":
		o.forget(strings.TrimSuffix(dir, "/"), false)
	case isWhiteout:
		o.forget(dir+hidden, true)
	case h.Typeflag == tar.TypeLink:
		o.set(name, o[path.Clean("/"+h.Linkname)])
	default:
		if h.Typeflag != tar.TypeDir {
			o.forget(name, true)
		}
		o.set(name, owner{h.Uid, h.Gid})
	}
}

// forget drops what is in a directory, and itself if asked.
func (o owners) forget(name string, self bool) {
	for known := range o {
		if known == name && self || strings.HasPrefix(known, name+"/") {
			delete(o, known)
		}
	}
}

// tap gives a reader of the same tar stream whose headers are learnt on the way. Call wait after
// the stream has been read to its end or dropped.
func (o owners) tap(stream io.Reader) (r io.Reader, wait func()) {
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		entries := tar.NewReader(pr)
		for {
			h, err := entries.Next()
			if err != nil {
				break // whoever applies the stream reports it
			}
			o.header(h)
		}
		_, _ = io.Copy(io.Discard, pr)
	}()
	return io.TeeReader(stream, pw), func() {
		pw.Close()
		<-done
	}
}

// known gives the table to an engine.
func (o owners) known() map[string]engine.Owner {
	known := make(map[string]engine.Owner, len(o))
	for name, who := range o {
		if who != (owner{}) {
			known[name] = engine.Owner{UID: who.uid, GID: who.gid}
		}
	}
	return known
}

// after tells whom entries belong to after a RUN.
type after struct {
	stage  *stage
	files  *rootfs.FS // as the command left them
	spec   engine.Spec
	keeper engine.OwnerKeeper // nil if the engine is none
}

func (s *stage) after(root *rootfs.FS, spec engine.Spec, process engine.Process) *after {
	keeper, _ := process.(engine.OwnerKeeper)
	return &after{s, root.View(rootfs.NoLinks), spec, keeper}
}

// given reports whether an entry has another owner than one of its name had before.
func (a *after) given(name string) bool { return a.owner(name) != a.stage.tree.owners[name] }

// settle is owner for an entry of the new layer, and remembers it.
func (a *after) settle(name string) (uid, gid int) {
	who := a.owner(name)
	a.stage.tree.owners.set(name, who)
	return who.uid, who.gid
}

// owner asks who may know: the disk, where files have owners there, or the engine. Else what has the name of
// something that was there before keeps its owner, and the rest is the user's who ran the command.
func (a *after) owner(name string) owner {
	was := a.stage.tree.owners[name]
	guessed := was
	if was == (owner{}) && !a.stage.tree.files.had(name) {
		guessed = owner{a.spec.User.UID, a.spec.User.GID}
	}
	dir, base, err := a.files.Parent(name)
	if err != nil {
		return guessed
	}
	defer dir.Close()
	switch {
	case a.stage.AllIDs:
		return a.onDisk(dir, base, was, guessed)
	case a.keeper != nil:
		if who, ok := a.keeper.OwnerAfter(dir.Fd(), base, engine.Owner{UID: was.uid, GID: was.gid}); ok {
			return owner{who.UID, who.GID}
		}
	}
	return guessed
}

// onDisk reads the owner of an entry. With an engine that pretends to be another user, what root has may be that user's.
func (a *after) onDisk(dir *rootfs.Dir, base string, was, guessed owner) owner {
	info, err := dir.Lstat(base)
	switch {
	case err != nil:
		return guessed
	case a.spec.AllIDs || info.UID != 0 || info.GID != 0:
		return owner{info.UID, info.GID}
	case was != (owner{}): // it was given to root, or made anew
		return owner{a.spec.User.UID, a.spec.User.GID}
	}
	return guessed
}
