package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"proot-distro/internal/compression"
	"proot-distro/internal/container"
	"proot-distro/internal/layer"
	"proot-distro/internal/report"
)

// BackupRequest is what `backup` was asked for.
type BackupRequest struct {
	Container *container.Container
	Format    compression.Format
	Report    report.Reporter
}

// Backup writes a container into w. Its sessions may go on meanwhile.
func Backup(ctx context.Context, req BackupRequest, w io.Writer) (layer.ArchiveStats, error) {
	packed, err := compression.NewWriter(ctx, w, req.Format)
	if err != nil {
		return layer.ArchiveStats{}, err
	}
	stats, err := writeContainer(ctx, req, packed)
	if closeErr := packed.Close(); err == nil {
		err = closeErr
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return stats, err
}

func writeContainer(ctx context.Context, req BackupRequest, w io.Writer) (layer.ArchiveStats, error) {
	buffered := newBuffer(w)
	out := tar.NewWriter(buffered)
	if err := writeRecord(req.Container, out); err != nil {
		return layer.ArchiveStats{}, err
	}
	tree, err := req.Container.Rootfs()
	if err != nil {
		return layer.ArchiveStats{}, err
	}
	defer tree.Close()
	meter := report.Discard.Begin(report.Task{})
	defer func() { meter.Done() }()
	stats, err := layer.Archive(ctx, tree, out, layer.ArchiveOptions{
		Prefix:  req.Container.Name + "/" + rootfsDir,
		Stream:  buffered,
		Owners:  req.Container.AllIDs(),
		Records: records(req.Container),
		OnScan: func(_, bytes int64) {
			meter = req.Report.Begin(report.Task{Label: "Archiving", Total: bytes})
		},
		OnEntry: func(path string, n int64) {
			meter.Add(n)
			req.Report.Detailf("%s", path)
		},
		OnSkip: func(path, reason string) { complain(req.Report, path, reason) },
		OnWarn: func(path, complaint string) { req.Report.Warnf("%s: %s", path, complaint) },
	})
	if err == nil {
		err = out.Close()
	}
	if err == nil {
		err = buffered.Flush()
	}
	return stats, err
}

// records are what the first entry of a container's root filesystem says about it.
func records(c *container.Container) map[string]string {
	if !c.AllIDs() {
		return nil
	}
	return map[string]string{usernsKey: usernsFull}
}

// complain warns of what should have been archived; devices and the like are left out
// silently, as documented.
func complain(r report.Reporter, path, reason string) {
	switch reason {
	case "FIFO", "socket", "device node":
		r.Detailf("left out %s: %s", path, reason)
	default:
		r.Warnf("left out %s: %s", path, reason)
	}
}

// writeRecord writes the bytes of manifest.json as they are, if there is one.
func writeRecord(c *container.Container, w *tar.Writer) error {
	record, err := c.Record()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	data, err := record.Encode()
	if err != nil {
		return fmt.Errorf("write manifest.json of %s: %w", c.Name, err)
	}
	written, err := c.RecordTime()
	if err != nil {
		return err
	}
	err = w.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: c.Name + "/" + recordFile, Mode: 0o600,
		Size: int64(len(data)), ModTime: written.Truncate(time.Second),
	})
	if err == nil {
		_, err = w.Write(data)
	}
	return err
}
