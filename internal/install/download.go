package install

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"proot-distro/internal/container"
	"proot-distro/internal/registry"
)

// download fetches the source's URL into a file beside the draft's rootfs, where
// it is swept away with the draft if this program is killed. The caller removes it.
func (in *Installer) download(ctx context.Context, draft *container.Container, req Request) (path string, err error) {
	path = filepath.Join(draft.Dir(), "download-"+nameFromFile(filepath.Base(req.Source.URL.Path)))
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("create download: %w", err)
	}
	_, err = registry.Fetch(ctx, registry.FetchRequest{
		URL: req.Source.URL, Insecure: req.Insecure, Version: in.Version,
		Into: file, Label: "Downloading", Report: in.Report,
	})
	if cerr := file.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("write download: %w", cerr)
	}
	if err != nil {
		os.Remove(path)
		return "", err
	}
	return path, nil
}
