package layer

import (
	"archive/tar"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"proot-distro/internal/rootfs"
)

// BenchmarkApply applies an archive like a small distribution's, 5,000 files of
// 16 KB on average, and has tar do the same. Nothing is deleted between the
// rounds, since ext4 is slow to create files after many were deleted.
func BenchmarkApply(b *testing.B) {
	var entries []tar.Header
	content := strings.Repeat("some text or other\n", 8<<10)
	var total int64
	for i := range 5000 {
		if i%20 == 0 {
			entries = append(entries, dir(fmt.Sprintf("usr/share/dir%d", i/20), 0o755))
		}
		size := 1 << (i % 17)
		if i%17 == 16 {
			size = len(content)
		}
		entries = append(entries, file(fmt.Sprintf("usr/share/dir%d/file%d", i/20, i), content[:size]))
		total += int64(size)
	}
	archive := filepath.Join(b.TempDir(), "archive.tar")
	check(b, os.WriteFile(archive, pack(b, entries...), 0o644))

	run := func(name string, apply func(dir string) error) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(total)
			b.ReportAllocs()
			top := b.TempDir()
			for i := 0; b.Loop(); i++ {
				target := filepath.Join(top, fmt.Sprint(i))
				check(b, os.Mkdir(target, 0o755))
				check(b, apply(target))
			}
		})
	}
	run("layer", func(dir string) error {
		root, err := rootfs.Open(dir, rootfs.GuestLinks)
		check(b, err)
		defer root.Close()
		f, err := os.Open(archive)
		check(b, err)
		defer f.Close()
		_, err = Apply(context.Background(), root, f, Options{Whiteouts: true})
		return err
	})
	run("tar", func(dir string) error {
		return exec.Command("tar", "-C", dir, "--no-same-owner", "-xf", archive).Run()
	})
}
