package build

import (
	"proot-distro/internal/build/layout"
	"proot-distro/internal/engine"
	"proot-distro/internal/rootfs"
)

// ownersBefore gives an engine the owners of a tree's files.
func ownersBefore(t *layout.Owners) map[string]engine.Owner {
	before := map[string]engine.Owner{}
	for name, who := range t.All() {
		if who != (layout.Owner{}) {
			before[name] = engine.Owner(who)
		}
	}
	return before
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
func (a *after) given(name string) bool { return a.owner(name) != a.stage.tree.owners.Of(name) }

// settle is owner for an entry of the new layer, and remembers it.
func (a *after) settle(name string) (uid, gid int) {
	who := a.owner(name)
	a.stage.tree.owners.Set(name, who)
	return who.UID, who.GID
}

// owner asks who may know: the disk, where files have owners there, or the engine. Else what has the name of
// something that was there before keeps its owner, and the rest is the user's who ran the command.
func (a *after) owner(name string) layout.Owner {
	was := a.stage.tree.owners.Of(name)
	guessed := was
	if was == (layout.Owner{}) && !a.stage.tree.files.had(name) {
		guessed = layout.Owner{UID: a.spec.User.UID, GID: a.spec.User.GID}
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
		if who, ok := a.keeper.OwnerAfter(dir.Fd(), base, engine.Owner(was)); ok {
			return layout.Owner(who)
		}
	}
	return guessed
}

// onDisk reads the owner of an entry. With an engine that pretends to be another user, what root has may be that user's.
func (a *after) onDisk(dir *rootfs.Dir, base string, was, guessed layout.Owner) layout.Owner {
	info, err := dir.Lstat(base)
	switch {
	case err != nil:
		return guessed
	case a.spec.AllIDs || info.UID != 0 || info.GID != 0:
		return layout.Owner{UID: info.UID, GID: info.GID}
	case was != (layout.Owner{}): // it was given to root, or made anew
		return layout.Owner{UID: a.spec.User.UID, GID: a.spec.User.GID}
	}
	return guessed
}
