package compression

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// sample is text that compresses well, with a stretch of noise, larger than the
// ring of buffers.
func sample() []byte {
	var b bytes.Buffer
	for i := range 60000 {
		b.WriteString("line of a file in a layer ")
		b.WriteByte(byte(i * 7))
	}
	noise := make([]byte, 300<<10)
	rand.Read(noise)
	b.Write(noise)
	return b.Bytes()
}

func readAll(r io.Reader) ([]byte, error) {
	z, err := NewReader(r)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return io.ReadAll(z)
}

func TestReaderReadsWhatTheToolsWrite(t *testing.T) {
	data := sample()
	for _, tool := range tools {
		t.Run(tool.format.String(), func(t *testing.T) {
			small := tool.run(t, []byte("x"))
			for name, tt := range map[string]struct{ packed, want []byte }{
				"sample":       {tool.run(t, data), data},
				"best":         {tool.run(t, data, "-9"), data},
				"fastest":      {tool.run(t, data, "-1"), data},
				"one byte":     {small, []byte("x")},
				"empty":        {tool.run(t, nil), nil},
				"text of 600K": {tool.run(t, data[:600<<10]), data[:600<<10]},
			} {
				z, err := NewReader(bytes.NewReader(tt.packed))
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if z.Format() != tool.format {
					t.Errorf("%s: found %v", name, z.Format())
				}
				got, err := io.ReadAll(iotest.OneByteReader(z))
				if err != nil || !bytes.Equal(got, tt.want) {
					t.Errorf("%s: got %d bytes and error %v, want %d bytes", name, len(got), err, len(tt.want))
				}
				z.Close()
			}
		})
	}
}

func TestReaderConcatenatedStreams(t *testing.T) {
	for _, tool := range tools {
		if tool.format == LZMA {
			continue // the format knows no concatenation
		}
		packed := append(tool.run(t, []byte("one,")), tool.run(t, []byte("two,"))...)
		packed = append(packed, tool.run(t, nil)...)
		packed = append(packed, tool.run(t, []byte("three"))...)
		got, err := readAll(bytes.NewReader(packed))
		if err != nil || string(got) != "one,two,three" {
			t.Errorf("%v: %q, %v", tool.format, got, err)
		}
	}
}

// What follows the data is ignored where the tool ignores it as well.
func TestReaderTrailingBytes(t *testing.T) {
	tolerant := map[Format]bool{Gzip: true, Bzip2: true, LZMA: true}
	for _, tool := range tools {
		packed := tool.run(t, []byte("hello"))
		got, err := readAll(bytes.NewReader(append(packed[:len(packed):len(packed)], make([]byte, 1024)...)))
		if tool.format != Zstd && (err != nil || string(got) != "hello") {
			t.Errorf("%v with zero padding: %q, %v", tool.format, got, err)
		}
		got, err = readAll(bytes.NewReader(append(packed[:len(packed):len(packed)], "some garbage"...)))
		if tolerant[tool.format] && (err != nil || string(got) != "hello") {
			t.Errorf("%v with garbage: %q, %v", tool.format, got, err)
		}
		if !tolerant[tool.format] && err == nil {
			t.Errorf("%v with garbage: no error", tool.format)
		}
	}
}

func TestReaderUncompressed(t *testing.T) {
	for _, want := range []string{"", "x", "not compressed at all", strings.Repeat("z", 3<<20)} {
		got, err := readAll(strings.NewReader(want))
		if err != nil || string(got) != want {
			t.Errorf("%d bytes became %d, %v", len(want), len(got), err)
		}
	}
}

func TestReaderTruncated(t *testing.T) {
	data := sample()
	for _, tool := range tools {
		packed := tool.run(t, data)
		magic := map[Format]int{Gzip: 2, Bzip2: 4, XZ: 6, LZMA: 14, Zstd: 4}[tool.format]
		for _, size := range []int{magic, magic + 3, 20, len(packed) / 2, len(packed) - 1} {
			_, err := readAll(bytes.NewReader(packed[:size]))
			if err == nil || err.Error() != tool.format.String()+" stream is truncated" {
				t.Errorf("%v cut at %d of %d: %v", tool.format, size, len(packed), err)
			}
		}
	}
}

func TestReaderCorrupt(t *testing.T) {
	data := sample()
	for _, tool := range tools {
		more := []string{}
		if tool.format == Zstd {
			more = append(more, "--check")
		}
		packed := tool.run(t, data, more...)
		packed[len(packed)/2] ^= 0x10
		got, err := readAll(bytes.NewReader(packed))
		var bad *Error
		if !errors.As(err, &bad) || bad.Format != tool.format {
			// lzma has no checksum: it may decode to something else
			if tool.format != LZMA || bytes.Equal(got, data) {
				t.Errorf("%v: error %v", tool.format, err)
			}
			continue
		}
		if !strings.HasPrefix(err.Error(), tool.format.String()+" stream is ") {
			t.Errorf("%v: %v", tool.format, err)
		}
	}
}

func TestReaderBoundsMemory(t *testing.T) {
	zstdWindow := tools[4].run(t, sample())
	// Frame header descriptor without single segment, window descriptor 2^31.
	zstdWindow[4], zstdWindow[5] = 0, 21<<3
	lzmaDict := tools[3].run(t, sample())
	binary.LittleEndian.PutUint32(lzmaDict[1:], 1<<30)
	xzDict := tools[2].run(t, sample(), "--lzma2=dict=256MiB")

	for name, packed := range map[string][]byte{"zstd": zstdWindow, "lzma": lzmaDict, "xz": xzDict} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := readAll(bytes.NewReader(packed))
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), "needs more than") {
			t.Errorf("%s: %v", name, err)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
			t.Errorf("%s: %d bytes allocated", name, grown)
		}
	}
}

// A bomb costs its consumer what the consumer reads, no more.
func TestReaderStreamsBombs(t *testing.T) {
	for _, tool := range tools {
		packed := tool.run(t, make([]byte, 64<<20))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		z, err := NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, z, 4<<20); err != nil {
			t.Errorf("%v: %v", tool.format, err)
		}
		z.Close()
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 40<<20 {
			t.Errorf("%v: %d bytes allocated", tool.format, grown)
		}
	}
}

var errVerdict = errors.New("digest mismatch")

// verifying fails instead of an end of file, as a digest check does.
func verifying(data []byte) io.Reader {
	return io.MultiReader(bytes.NewReader(data), iotest.ErrReader(errVerdict))
}

func TestReaderGivesTheSourceTheLastWord(t *testing.T) {
	data := sample()
	for _, tool := range append(tools, tool{format: None}) {
		packed := data
		if tool.format != None {
			packed = tool.run(t, data)
		}
		damaged := bytes.Clone(packed)
		damaged[len(damaged)/2] ^= 0x10
		for name, source := range map[string][]byte{
			"whole":    packed,
			"trailing": append(bytes.Clone(packed), make([]byte, 1<<20)...),
			"corrupt":  damaged,
			"cut":      packed[:len(packed)/2],
			"short":    packed[:20],
		} {
			if _, err := readAll(verifying(source)); !errors.Is(err, errVerdict) {
				t.Errorf("%v, %s: %v", tool.format, name, err)
			}
			z, err := NewReader(verifying(source))
			if err != nil {
				continue // the short one fails here, and has just been checked
			}
			io.CopyN(io.Discard, z, 100)
			if err := z.Drain(); !errors.Is(err, errVerdict) {
				t.Errorf("%v, %s: Drain gave %v", tool.format, name, err)
			}
			z.Close()
		}
	}
}

func TestReaderDrainToTheEnd(t *testing.T) {
	for _, packed := range [][]byte{tools[0].run(t, sample()), sample(), nil} {
		source := bytes.NewReader(packed)
		z, err := NewReader(source)
		if err != nil {
			t.Fatal(err)
		}
		if err := z.Drain(); err != nil || source.Len() != 0 {
			t.Errorf("error %v, %d bytes left", err, source.Len())
		}
		z.Close()
	}
}

func TestReaderClose(t *testing.T) {
	for _, tool := range append(tools, tool{format: None}) {
		packed := make([]byte, 8<<20)
		if tool.format != None {
			packed = tool.run(t, packed)
		}
		z, err := NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := z.Close(); err != nil {
				t.Errorf("%v: %v", tool.format, err)
			}
		}
		if _, err := io.Copy(io.Discard, z); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%v: reading after Close gave %v", tool.format, err)
		}
	}
}

func TestReaderCloseWhileTheSourceBlocks(t *testing.T) {
	packed := tools[0].run(t, sample())
	source, feed := io.Pipe()
	go feed.Write(packed[:len(packed)/2])
	z, err := NewReader(source)
	if err != nil {
		t.Fatal(err)
	}
	blocked := make(chan error)
	go func() {
		_, err := io.Copy(io.Discard, z)
		blocked <- err
	}()
	started := time.Now()
	z.Close()
	if spent := time.Since(started); spent > 10*time.Second {
		t.Errorf("Close took %v", spent)
	}
	if err := <-blocked; !errors.Is(err, os.ErrClosed) {
		t.Errorf("the consumer got %v", err)
	}
	source.Close()
	<-z.source.done
}
