package compression

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// FuzzReader wants an end or an Error of any bytes, and no panic.
func FuzzReader(f *testing.F) {
	data := sample()[:5000]
	for _, tool := range tools {
		for _, packed := range [][]byte{tool.run(f, data), tool.run(f, nil), tool.run(f, bytes.Repeat([]byte("ab"), 4000), "-9")} {
			f.Add(packed)
			f.Add(packed[:len(packed)/2])
			f.Add(append(bytes.Clone(packed), packed...))
		}
	}
	f.Add([]byte("uncompressed"))
	f.Fuzz(func(t *testing.T, input []byte) {
		z, err := NewReader(bytes.NewReader(input))
		if err != nil {
			t.Fatalf("bytes in memory can always be read: %v", err)
		}
		defer z.Close()
		_, err = io.CopyN(io.Discard, z, 8<<20)
		var bad *Error
		if err != nil && err != io.EOF && !errors.As(err, &bad) {
			t.Errorf("unexpected kind of error: %v", err)
		}
	})
}
