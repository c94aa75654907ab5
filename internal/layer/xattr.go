package layer

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"proot-distro/internal/rootfs"
)

const (
	xattrRecord  = "SCHILY.xattr." // of tar, see star(1)
	capability   = "security.capability"
	maxXattrList = 64 << 10 // XATTR_LIST_MAX
)

// isPacked tells the extended attributes that belong into a layer: a user's and a program's
// capabilities, without what overlayfs notes about some mount.
func isPacked(attr string) bool {
	return attr == capability || strings.HasPrefix(attr, "user.") && !strings.HasPrefix(attr, "user.overlay.")
}

// xattrs reads the extended attributes that belong into a layer, by a path that leads to
// nothing else, such as one in /proc/self/fd. Where there are none, or cannot be any, it gives nil.
func xattrs(path string) map[string]string {
	return readXattrs(
		func(list []byte) (int, error) { return unix.Listxattr(path, list) },
		func(attr string, value []byte) (int, error) { return unix.Getxattr(path, attr, value) })
}

// fileXattrs is xattrs of an open file, and faster.
func fileXattrs(f *os.File) map[string]string {
	fd := int(f.Fd())
	return readXattrs(
		func(list []byte) (int, error) { return unix.Flistxattr(fd, list) },
		func(attr string, value []byte) (int, error) { return unix.Fgetxattr(fd, attr, value) })
}

func readXattrs(listxattr func([]byte) (int, error), getxattr func(string, []byte) (int, error)) map[string]string {
	size, err := listxattr(nil)
	if err != nil || size <= 0 || size > maxXattrList {
		return nil
	}
	list := make([]byte, size)
	size, err = listxattr(list)
	if err != nil {
		return nil
	}
	var found map[string]string
	for name := range bytes.SplitSeq(list[:size], []byte{0}) {
		attr := string(name)
		if !isPacked(attr) {
			continue
		}
		value := make([]byte, maxXattrList) // XATTR_SIZE_MAX
		n, err := getxattr(attr, value)
		if err != nil {
			continue
		}
		if found == nil {
			found = map[string]string{}
		}
		found[attr] = string(value[:n])
	}
	return found
}

// clearXattrs takes the extended attributes of users from a directory, where there are any.
func clearXattrs(p place) {
	d, err := p.dir.OpenDir(p.base)
	if err != nil {
		return
	}
	defer d.Close()
	path := openPath(uintptr(d.Fd()))
	for attr := range xattrs(path) {
		_ = unix.Removexattr(path, attr) // no more than setting them must it work
	}
}

// openPath names what a descriptor is open for, also one of O_PATH.
func openPath(fd uintptr) string { return "/proc/self/fd/" + strconv.FormatUint(uint64(fd), 10) }

// hashAttrs is 0 for a directory without extended attributes.
func hashAttrs(d *rootfs.Dir) uint64 {
	found := xattrs(openPath(uintptr(d.Fd())))
	if len(found) == 0 {
		return 0
	}
	var pairs []string
	for attr, value := range found {
		pairs = append(pairs, attr+"\x00"+value)
	}
	slices.Sort(pairs)
	h := fnv.New64a()
	h.Write([]byte(strings.Join(pairs, "\x00\x00")))
	return h.Sum64() | 1
}

// paxXattrs gives extended attributes as records of a tar header.
func paxXattrs(found map[string]string) map[string]string {
	if len(found) == 0 {
		return nil
	}
	records := make(map[string]string, len(found))
	for attr, value := range found {
		if attr == capability {
			value = portableCapability(value)
		}
		records[xattrRecord+toKeyword.Replace(attr)] = value
	}
	return records
}

// A record's keyword ends at its first "=", so GNU tar writes such a name like this.
var (
	toKeyword   = strings.NewReplacer("%", "%25", "=", "%3D")
	fromKeyword = strings.NewReplacer("%25", "%", "%3D", "=")
)

// portableCapability takes the root user of a user namespace, which means nothing on another
// machine, out of capabilities: capabilities(7), "File capability extended attribute versioning".
func portableCapability(value string) string {
	const (
		revision2, revision3 = 0x02000000, 0x03000000
		size2, size3         = 20, 24
	)
	if len(value) != size3 {
		return value
	}
	magic := binary.LittleEndian.Uint32([]byte(value))
	if magic&0xff000000 != revision3 {
		return value
	}
	head := binary.LittleEndian.AppendUint32(nil, magic&0x00ffffff|revision2)
	return string(head) + value[4:size2]
}
