package rootfs

// maxSized is how deep Size looks, with an open directory for each level.
const maxSized = 128

// Size adds up the bytes of an entry and of all that is in it, as far as they can be read. Directories themselves
// count nothing, nor do holes, and a file with several names counts once.
func (t *FS) Size(name string) (sum int64) {
	_ = t.in("size", name, func(d *Dir, base string) error { sum = d.Size(base); return nil })
	return sum
}

// Size is [FS.Size] of an entry of d.
func (d *Dir) Size(name string) int64 {
	if d.check("size", name) != nil {
		return 0
	}
	s := sizer{seen: map[[2]uint64]bool{}}
	s.add(d, name, 0)
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
	if !info.Mode.IsDir() {
		id := [2]uint64{info.Dev, info.Ino}
		switch {
		case s.seen[id]:
		case info.Mode.IsRegular():
			s.sum += min(info.Size, info.Stored) // without holes
		default:
			s.sum += info.Size
		}
		if info.Nlink > 1 {
			s.seen[id] = true
		}
		return
	}
	if depth == maxSized {
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
