package cli

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"proot-distro/internal/build"
	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
)

func newTagCommand(a *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tag [OPTIONS] IMAGE NAME",
		Short: "Give a cached image another name",
		Long: "Give an image in the cache another name, under which it can be installed and pushed: all its architectures. " +
			"The old name stays. An image that had the new name loses it. Nothing is copied.",
		Example:           "pd tag app:latest ghcr.io/user/app:1.0",
		ValidArgsFunction: a.completeCached,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runTag(cmd, a, args[0], args[1])
		},
	}
	a.quietFlag(cmd)
	return cmd
}

func runTag(cmd *cobra.Command, a *App, from, to string) (err error) {
	src, err := oci.ParseRef(from)
	if err != nil {
		return err
	}
	dst, err := oci.ParseRef(to)
	if err != nil {
		return err
	}
	if dst.Digest != "" {
		return UsageErrorf(cmd, "a digest cannot be chosen: write NAME as name:tag")
	}
	cache, err := a.Cache()
	if err != nil {
		return err
	}
	release, err := a.lockImages([]build.Tag{{Ref: dst, Typed: to}}, platform.All())
	if err != nil {
		return err
	}
	defer release()
	unlock, err := cache.Lock(image.Shared)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	archs, err := cache.Tag(src, dst, to)
	if errors.Is(err, fs.ErrNotExist) {
		return uncached(&missingError{what: fmt.Sprintf("image '%s' is not in the cache", src)}, src)
	} else if err != nil {
		return err
	}
	for _, arch := range archs {
		a.UI.Infof("Tagged %s (%s) as %s.", src, arch, dst)
	}
	return nil
}
