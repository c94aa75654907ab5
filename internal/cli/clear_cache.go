package cli

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"proot-distro/internal/build"
	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/ui"
)

type clearOptions struct {
	orphan, build bool
}

func newClearCacheCommand(a *App) *cobra.Command {
	var o clearOptions
	cmd := &cobra.Command{
		Use:   "clear-cache [OPTIONS]",
		Short: "Delete the download cache",
		Long: "Delete everything in the cache: layers, images and the index of build steps. Containers are not " +
			"touched. The next install or reset of an image downloads it again.\n\n" +
			"With --orphan or --build-cache only that part is deleted, and every cached image stays complete.",
		Example: "pd clear-cache\n\n# Only what nothing needs\npd clear-cache --orphan",
		RunE:    func(*cobra.Command, []string) error { return runClearCache(a, o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.orphan, "orphan", false, "delete only layers that no image, container or build step uses, what builds unpacked of them, and what killed commands left")
	f.BoolVar(&o.build, "build-cache", false, "delete only the index of build steps, what builds unpacked, and layers that nothing else uses")
	a.verboseFlags(cmd, "each deleted file")
	return cmd
}

func runClearCache(a *App, o clearOptions) error {
	cache, err := a.Cache()
	if err != nil {
		return err
	}
	req := image.ClearRequest{
		Orphans: o.orphan, Build: o.build,
		Removed: func(name string) { a.UI.Detailf("removed %s", name) },
	}
	if o.orphan || o.build {
		if req.Used, err = a.records(); err != nil {
			return err
		}
	}
	swept := build.Sweep(a.host.Dirs)
	freed, err := cache.Clear(req)
	freed += swept
	if err != nil {
		if freed > 0 {
			a.UI.Infof("%s freed.", ui.Size(freed))
		}
		return err
	}
	if freed == 0 {
		a.UI.Infof("There was nothing to delete.")
		return nil
	}
	a.UI.Infof("Cleared the cache: %s freed.", ui.Size(freed))
	return nil
}

// records are those of all containers that have one. One that is being installed holds the
// cache's lock meanwhile.
func (a *App) records() (records []*oci.Record, err error) {
	store, err := a.Store()
	if err != nil {
		return nil, err
	}
	if err := store.Sweep(); err != nil {
		a.UI.Warnf("leftovers of an earlier run could not be deleted: %v", err)
	}
	names, err := store.Names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		record, err := readRecord(a.host.Dirs, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("find out what container %q needs: %w", name, err)
		}
		records = append(records, record)
	}
	return records, nil
}
