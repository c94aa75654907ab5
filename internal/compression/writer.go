package compression

import (
	"context"
	"io"
	"runtime"

	"github.com/dsnet/compress/bzip2"
	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

const (
	gzipLevel     = 6
	gzipBlock     = 1 << 20
	maxGzipBlocks = 16 // compressed at once; each takes some 3 MiB
)

// NewWriter compresses what is written to it into w, at the level that the format's
// program takes when it is not told any other. Every format comes out as a single
// stream (one gzip member, one zstd frame), since simple readers stop after the first.
// Errors of w are returned as they are. Close ends the stream; it does not close w.
//
// Formats that are slow to compress are left to a program of this machine when it has
// one that uses all its CPUs. It may be far behind: the context's end stops it at once.
func NewWriter(ctx context.Context, w io.Writer, f Format) (io.WriteCloser, error) {
	if path, args := findProgram(f); path != "" {
		return startProgram(ctx, w, path, args)
	}
	switch f {
	case Gzip:
		z, err := pgzip.NewWriterLevel(w, gzipLevel)
		if err != nil {
			return nil, err
		}
		return z, z.SetConcurrency(gzipBlock, min(runtime.GOMAXPROCS(0), maxGzipBlocks))
	case Bzip2:
		return bzip2.NewWriter(w, &bzip2.WriterConfig{Level: bzip2.BestCompression})
	case XZ:
		return xz.NewWriter(w)
	case LZMA:
		return lzma.NewWriter(w)
	case Zstd:
		return zstd.NewWriter(w)
	}
	return plainWriter{w}, nil
}

type plainWriter struct{ io.Writer }

func (plainWriter) Close() error { return nil }
