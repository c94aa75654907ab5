package rootfs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const benchDirs, benchFiles = 200, 100 // 20,000 files

// BenchmarkCreate creates 20,000 files per operation. Nothing is deleted between
// the rounds, since ext4 is slow to create files after many were deleted.
func BenchmarkCreate(b *testing.B) {
	data := []byte("a small file's content\n")
	b.Run("rootfs", func(b *testing.B) {
		dir := tree(b)
		fsys := open(b, dir, GuestLinks)
		for i := 0; b.Loop(); i++ {
			for j := range benchDirs {
				name := fmt.Sprintf("round%d/usr/share/dir%d", i, j)
				check(b, fsys.MkdirAll(name, 0o755))
				d, err := fsys.OpenDir(name)
				check(b, err)
				for k := range benchFiles {
					f, err := d.Create(fmt.Sprintf("file%d", k), 0o644)
					check(b, err)
					_, err = f.Write(data)
					check(b, err)
					check(b, f.Close())
				}
				check(b, d.Close())
			}
		}
	})
	b.Run("os", func(b *testing.B) {
		dir := tree(b)
		for i := 0; b.Loop(); i++ {
			for j := range benchDirs {
				sub := filepath.Join(dir, fmt.Sprintf("round%d/usr/share/dir%d", i, j))
				check(b, os.MkdirAll(sub, 0o755))
				for k := range benchFiles {
					check(b, os.WriteFile(filepath.Join(sub, fmt.Sprintf("file%d", k)), data, 0o644))
				}
			}
		}
	})
}

// BenchmarkRemoveAll removes 20,000 files per operation.
func BenchmarkRemoveAll(b *testing.B) {
	run := func(b *testing.B, remove func(fsys *FS, name string) error) {
		dir := tree(b)
		fsys := open(b, dir, GuestLinks)
		for i := range b.N {
			b.StopTimer()
			name := fmt.Sprintf("round%d", i)
			for j := range benchDirs {
				sub := filepath.Join(dir, name, fmt.Sprintf("dir%d", j))
				check(b, os.MkdirAll(sub, 0o755))
				for k := range benchFiles {
					check(b, os.WriteFile(filepath.Join(sub, fmt.Sprintf("file%d", k)), nil, 0o644))
				}
			}
			b.StartTimer()
			check(b, remove(fsys, name))
		}
	}
	b.Run("rootfs", func(b *testing.B) {
		run(b, func(fsys *FS, name string) error { return fsys.RemoveAll(name, RemoveOptions{}) })
	})
	b.Run("rm", func(b *testing.B) {
		run(b, func(fsys *FS, name string) error {
			return exec.Command("rm", "-rf", filepath.Join(fsys.Path(), name)).Run()
		})
	})
}
