package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/registry"
)

type pullOptions struct {
	arch          platform.Arch
	allPlatforms  bool
	allowInsecure bool
}

func newPullCommand(a *App) *cobra.Command {
	var o pullOptions
	cmd := &cobra.Command{
		Use:   "pull [OPTIONS] IMAGE",
		Short: "Fetch an image into the cache",
		Long: "Fetch an image from its registry into the local cache, from where install takes it without a network and " +
			"push sends it elsewhere. The registry is asked for the newest image of that name; what of it is cached is " +
			"not fetched again. Containers do not change.",
		Example: "pd pull debian:12\n\n# For another CPU\npd pull -a aarch64 debian:12\n\n" +
			"# An exact copy in a registry of your own\npd pull --all-platforms debian:12\n" +
			"pd tag debian:12 registry.lan:5000/debian:12\npd push registry.lan:5000/debian:12",
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runPull(cmd, a, o, args[0])
		},
	}
	a.archFlag(cmd, &o.arch, "fetch the image for CPU architecture `ARCH` (default: this machine's)")
	f := cmd.Flags()
	f.BoolVar(&o.allPlatforms, "all-platforms", false, "fetch the image for every platform that it exists for")
	f.BoolVar(&o.allowInsecure, "allow-insecure", false, "accept plain http and bad certificates")
	a.verboseFlags(cmd, "where each part comes from")
	cmd.MarkFlagsMutuallyExclusive("architecture", "all-platforms")
	return cmd
}

func runPull(cmd *cobra.Command, a *App, o pullOptions, typed string) error {
	ref, err := oci.ParseRef(typed)
	if err != nil {
		return err
	}
	h, err := a.Host()
	if err != nil {
		return err
	}
	cache, err := a.Cache()
	if err != nil {
		return err
	}
	req := registry.Request{
		Ref: ref, Typed: typed, Arch: h.Arch, Cache: cache, Insecure: o.allowInsecure,
		Auth: a.auth(), Report: a.UI, Version: Version(),
	}
	if o.arch != "" {
		req.Arch = o.arch
	}
	a.UI.Infof("Pulling %s", ref)
	done, err := registry.Download(cmd.Context(), req, o.allPlatforms)
	if err != nil {
		return err
	}
	a.UI.Infof("Pulled %s (%s): %s", ref, strings.Join(done.Platforms, ", "), done.Digest)
	return nil
}
