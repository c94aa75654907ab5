package compression

import (
	"bytes"
	"io"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// TestLargeWindow: a reader's memory does not outlive it, whether it was read to the end or not.
func TestLargeWindow(t *testing.T) {
	const window = 64 << 20
	var packed bytes.Buffer
	z, err := zstd.NewWriter(&packed, zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(z, zeros{}, window+1); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	z = nil
	for _, n := range []int64{1, window + 1} {
		r, err := NewReader(bytes.NewReader(packed.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, r, n); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r.Close()
		r.Close()
		runtime.ReadMemStats(&after)
		if n == 1 && before.HeapAlloc < window || after.HeapAlloc > window/2 {
			t.Errorf("after %d bytes %d MiB are in use, and %d when it was closed", n, before.HeapAlloc>>20, after.HeapAlloc>>20)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
