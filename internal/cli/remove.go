package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"proot-distro/internal/container"
	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
	"proot-distro/internal/ui"
)

type removeOptions struct {
	image bool
	arch  platform.Arch
}

func newRemoveCommand(a *App) *cobra.Command {
	var o removeOptions
	cmd := &cobra.Command{
		Use:   "remove [OPTIONS] CONTAINER...",
		Short: "Delete containers or cached images",
		Long: "Delete containers with all their data. This cannot be undone and is not confirmed. A container " +
			"in which a session runs is not deleted.\n\n" +
			"With --image, delete images from the cache instead, with those layers that no other cached image " +
			"shares. Containers made from them stay.",
		Example: "pd remove ubuntu\n\n# Free the space of a cached image\npd remove --image debian:bookworm",
	}
	cmd.Flags().BoolVarP(&o.image, "image", "i", false, "delete cached images; the names are image references")
	a.archFlag(cmd, &o.arch, "delete the image of `ARCH` only (default: of every architecture)")
	a.verboseFlags(cmd, "each deleted file")
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if o.image {
			return a.cachedImages(), cobra.ShellCompDirectiveNoFileComp
		}
		return a.completeContainers(cmd, args, typed)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if o.arch != "" && !o.image {
			return UsageErrorf(cmd, "option --architecture goes with --image only")
		}
		if o.image {
			return runRemoveImages(a, o, args)
		}
		return runRemove(cmd.Context(), a, args)
	}
	return cmd
}

func runRemove(ctx context.Context, a *App, names []string) error {
	store, err := a.Store()
	if err != nil {
		return err
	}
	var failed failures
	for _, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		failed.add(removeContainer(ctx, a, store, name))
	}
	return failed.result()
}

func removeContainer(ctx context.Context, a *App, store *container.Store, name string) (err error) {
	leftovers, err := store.Leftovers()
	if err != nil {
		return err
	}
	c, err := store.Open(name, container.Exclusive, "remove")
	if missing := (*container.NotFoundError)(nil); errors.As(err, &missing) && slices.Contains(leftovers, name) {
		a.UI.Infof("Removed what was left of container '%s'.", name) // by Open
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	meter := a.UI.Begin(report.Task{Label: "Removing " + name, Unit: report.Entries})
	defer meter.Done()
	err = c.Remove(rootfs.RemoveOptions{
		OnRemove: func(path string) {
			meter.Add(1)
			a.UI.Detailf("removed %s%s", name, path)
		},
		Stop: func() error { return context.Cause(ctx) },
	})
	if errors.Is(err, errAborted) {
		a.UI.Warnf("container '%s' is gone already; what is left of its files goes with the next \"remove %s\", install or restore", name, name)
	}
	if err != nil {
		return err
	}
	a.UI.Infof("Removed container '%s'.", name)
	return nil
}

func runRemoveImages(a *App, o removeOptions, refs []string) error {
	cache, err := a.Cache()
	if err != nil {
		return err
	}
	records, err := cache.List()
	if err != nil {
		return err
	}
	var failed failures
	for _, typed := range refs {
		failed.add(removeImage(a, o, cache, records, typed))
	}
	return failed.result()
}

func removeImage(a *App, o removeOptions, cache *image.Cache, records []*oci.Record, typed string) error {
	ref, err := oci.ParseRef(typed)
	if err != nil {
		return err
	}
	archs, err := cachedArchs(o.arch, ref, records)
	if err != nil {
		return err
	}
	var freed int64
	var names []string
	for _, arch := range archs {
		n, err := cache.RemoveImage(ref, arch, func(name string) { a.UI.Detailf("removed %s", name) })
		if err != nil {
			return err
		}
		freed += n
		names = append(names, string(arch))
	}
	a.UI.Infof("Removed image '%s' (%s) from the cache: %s freed.", ref, strings.Join(names, ", "), ui.Size(freed))
	return nil
}

// cachedArchs are the architectures that the cache has an image for, or the one asked for.
func cachedArchs(asked platform.Arch, ref oci.Ref, records []*oci.Record) ([]platform.Arch, error) {
	var archs []platform.Arch
	for _, r := range records {
		if other, err := oci.ParseRef(r.ImageRef); err == nil && other.Canonical() == ref.Canonical() && !slices.Contains(archs, r.Arch) {
			archs = append(archs, r.Arch)
		}
	}
	switch {
	case len(archs) == 0:
		return nil, &missingError{what: fmt.Sprintf("image '%s' is not in the cache", ref), hint: "list --image"}
	case asked == "":
		slices.Sort(archs)
		return archs, nil
	case slices.Contains(archs, asked):
		return []platform.Arch{asked}, nil
	}
	return nil, &missingError{what: fmt.Sprintf("image '%s' is not in the cache for %s", ref, asked), hint: "list --image"}
}

// chooseCached decides which architecture of a cached image is meant when none
// was given: this machine's, or the only one there is.
func chooseCached(own, asked platform.Arch, ref oci.Ref, records []*oci.Record) (platform.Arch, error) {
	archs, err := cachedArchs(asked, ref, records)
	switch {
	case err != nil:
		return "", err
	case len(archs) == 1:
		return archs[0], nil
	case slices.Contains(archs, own):
		return own, nil
	}
	return "", fmt.Errorf("image '%s' is cached for several architectures: choose one with --architecture", ref)
}
