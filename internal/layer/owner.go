package layer

import (
	"errors"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// chown gives an entry its owner where owners are kept.
func (a *applier) chown(p place, uid, gid int) error {
	if !a.o.Owners {
		return nil
	}
	return setOwner(uid, gid, func() error { return p.dir.Chown(p.base, uid, gid) })
}

// chownFile is chown for an open file.
func chownFile(f *os.File, uid, gid int) error {
	return setOwner(uid, gid, func() error { return f.Chown(uid, gid) })
}

// setOwner says it when the user namespace has no such ID.
func setOwner(uid, gid int, chown func() error) error {
	err := error(unix.EINVAL)
	if isID(uid) && isID(gid) {
		err = chown()
	}
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("user %d or group %d does not exist here, so that it cannot be the owner", uid, gid)
	}
	return err
}

// isID excludes what chown(2) takes for "leave it as it is", and what it cannot be told.
func isID(id int) bool { return id >= 0 && int64(id) < math.MaxUint32 }
