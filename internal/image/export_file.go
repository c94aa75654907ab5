package image

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"proot-distro/internal/compression"
)

// ExportFile writes images into an archive that is both an OCI image layout and what `docker load` reads,
// compressed as its name says (.tar, .tar.gz, .tar.xz, .tar.zst, …). The file appears when it is
// complete; what is no regular file, such as a FIFO, is written to as it is.
func ExportFile(ctx context.Context, filename string, exports []Export) (err error) {
	format, ok := compression.FromName(filename)
	if !ok {
		return fmt.Errorf("export image: the name %q must end in .tar, .tar.gz, .tar.xz or .tar.zst", filename)
	}
	write := func(f *os.File) error {
		z, err := compression.NewWriter(ctx, f, format)
		if err != nil {
			return fmt.Errorf("export image: %w", err)
		}
		err = exportOCI(ctx, z, exports)
		if closeErr := z.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("export image: %w", closeErr)
		}
		return err
	}
	if info, err := os.Stat(filename); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(filename, os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("export image: %w", err)
		}
		return errors.Join(write(f), f.Close())
	}
	if real, err := filepath.EvalSymlinks(filename); err == nil {
		filename = real
	}
	temp := filepath.Join(filepath.Dir(filename), "."+filepath.Base(filename)+"."+rand.Text())
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return fmt.Errorf("export image: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(temp)
		}
	}()
	if err := errors.Join(write(f), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, filename); err != nil {
		return fmt.Errorf("export image: %w", err)
	}
	return nil
}
