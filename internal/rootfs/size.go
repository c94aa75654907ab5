package rootfs

// maxSized is how deep Size looks, with an open directory for each level.
const maxSized = 128

// Size adds up the sizes of an entry and of all that is in it, in bytes, as far as these can be read. A file with
// several names counts once.
func (t *FS) Size(name string) int64 {
	dir, base, err := t.Parent(name)
	if err != nil {
		return 0
	}
	defer dir.Close()
	s := sizer{seen: map[[2]uint64]bool{}}
	s.add(dir, base, 0)
	return s.sum
}

type sizer struct {
	sum  int64
	seen map[[2]uint64]bool // device and inode of files with several names
}

func (s *sizer) add(dir *Dir, name string, depth int) {
	info, err := dir.Lstat(name)
	if err != nil {
		return
	}
	if !info.Mode.IsDir() && info.Nlink > 1 {
		id := [2]uint64{info.Dev, info.Ino}
		if s.seen[id] {
			return
		}
		s.seen[id] = true
	}
	s.sum += info.Size
	if !info.Mode.IsDir() || depth == maxSized {
		return
	}
	sub, err := dir.OpenDir(name)
	if err != nil {
		return
	}
	defer sub.Close()
	entries, _ := sub.ReadDir()
	for _, e := range entries {
		s.add(sub, e.Name, depth+1)
	}
}
