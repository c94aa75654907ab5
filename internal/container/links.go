package container

import (
	"path"

	"proot-distro/internal/l2s"
)

// plainFile marks, by being there, a container through which somebody has looked for stand-ins
// for hard links in vain. Only where links are refused do new ones come, and there nobody asks.
const plainFile = "no-l2s"

// StandIns reports whether the container may have stand-ins for hard links (package l2s), whose
// targets are host paths. The first time, this looks at all of its files.
func (c *Container) StandIns() (bool, error) {
	tree, err := c.Rootfs()
	if err != nil {
		return false, err
	}
	defer tree.Close()
	if info, err := tree.Lstat(l2s.Dir); err == nil && info.Mode.IsDir() {
		return true, nil
	}
	mark := path.Join(c.dir, plainFile)
	if info, err := c.state.Lstat(mark); err == nil && info.Mode.IsRegular() {
		return false, nil
	}
	found, err := l2s.Any(tree)
	if err == nil && !found {
		err = c.state.WriteFile(mark, nil, 0o600)
	}
	if err != nil {
		return false, c.state.failed("look through", c.Name, err)
	}
	return found, nil
}
