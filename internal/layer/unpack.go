package layer

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"proot-distro/internal/compression"
	"proot-distro/internal/rootfs"
)

// Unpack is [Apply] for a stream that may be compressed. Where the stream makes no sense, it is read to its
// end for the sake of the error that this may give: that of a wrong digest explains the rest.
func Unpack(ctx context.Context, root *rootfs.FS, packed io.Reader, o Options) (Stats, error) {
	plain, err := compression.NewReader(packed)
	if err != nil {
		return Stats{}, err
	}
	defer plain.Close()
	stats, err := Apply(ctx, root, plain, o)
	var onDisk *fs.PathError
	if err != nil && !errors.As(err, &onDisk) && ctx.Err() == nil {
		if verdict := plain.Drain(); verdict != nil {
			return stats, verdict
		}
	}
	return stats, err
}
