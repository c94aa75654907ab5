package compression

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// benchmarkData is a tar archive of this machine's programs, at most 256 MiB.
func benchmarkData(b *testing.B) string {
	b.Helper()
	plain := filepath.Join(b.TempDir(), "data.tar")
	out, err := exec.Command("sh", "-c", `tar -cf - /usr/bin /usr/lib 2>/dev/null | head -c 268435456 > "$0"`, plain).CombinedOutput()
	if err != nil {
		b.Fatalf("make data: %v\n%s", err, out)
	}
	return plain
}

// BenchmarkReader and the real tool, each decompressing the same file.
func BenchmarkReader(b *testing.B) {
	plain := benchmarkData(b)
	info, err := os.Stat(plain)
	if err != nil {
		b.Fatal(err)
	}
	for _, tool := range tools {
		packed := tool.pack(b, plain)
		b.Run(tool.format.String()+"/ours", func(b *testing.B) {
			b.SetBytes(info.Size())
			for b.Loop() {
				file, err := os.Open(packed)
				if err != nil {
					b.Fatal(err)
				}
				z, err := NewReader(file)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, z); err != nil {
					b.Fatal(err)
				}
				z.Close()
				file.Close()
			}
		})
		b.Run(tool.format.String()+"/tool", func(b *testing.B) {
			b.SetBytes(info.Size())
			for b.Loop() {
				cmd := exec.Command(tool.argv[0], append(tool.argv[1:len(tool.argv):len(tool.argv)], "-d", packed)...)
				out, err := cmd.StdoutPipe()
				if err != nil {
					b.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, out); err != nil {
					b.Fatal(err)
				}
				if err := cmd.Wait(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
