package cli

import (
	"context"

	"github.com/spf13/cobra"

	"proot-distro/internal/install"
	"proot-distro/internal/platform"
	"proot-distro/internal/ui"
)

type installOptions struct {
	name          string
	nameGiven     bool
	arch          platform.Arch
	allowInsecure bool
}

func newInstallCommand(a *App) *cobra.Command {
	var o installOptions
	cmd := &cobra.Command{
		Use:   "install [OPTIONS] (IMAGE | PATH | URL)",
		Short: "Make a container from an image or an archive",
		Long: "Make a container from an image of Docker Hub or any other registry, from a local archive (a root " +
			"filesystem in a tar file, an OCI layout, the output of docker save), or from the URL of one. What starts " +
			"with /, ./, ../ or ~ is a path; what starts with http:// or https:// is a URL.",
		Example: "pd install ubuntu:24.04\n\n# Under another name\npd install alpine:3.21 --name my-alpine\n\n" +
			"# For another CPU\npd install debian:12 --architecture aarch64\n\n" +
			"# From another registry\npd install ghcr.io/myorg/myimage:latest\n\n" +
			"# A private image\nPD_DOCKER_AUTH=user:password pd install user/private\n\n" +
			"# From a file\npd install ./rootfs.tar.xz --name mine",
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.nameGiven = cmd.Flags().Changed("name")
			return runInstall(cmd, a, o, args[0])
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.name, "name", "n", "", "call the container `NAME` (default: the image's or the file's name)")
	a.archFlag(cmd, &o.arch, "take the image for CPU architecture `ARCH` (default: this machine's)")
	a.usernsFlag(cmd, "give files owners, and users IDs of their own, with full: `IDS` is single or full (default single)")
	f.BoolVar(&o.allowInsecure, "allow-insecure", false, "accept plain http and bad certificates")
	a.quietFlag(cmd)
	return cmd
}

func runInstall(cmd *cobra.Command, a *App, o installOptions, source string) error {
	if o.nameGiven && o.name == "" {
		return UsageErrorf(cmd, "the name given with --name is empty")
	}
	h, err := a.Host()
	if err != nil {
		return err
	}
	req := install.Request{
		Name: o.name, Arch: h.Arch, Insecure: o.allowInsecure,
		Auth: a.auth(),
	}
	if o.arch != "" {
		req.Arch = o.arch
	}
	if req.Source, err = install.ParseSource(source, h.Home); err != nil {
		return err
	}
	result, err := a.install(cmd.Context(), req)
	if err != nil {
		return err
	}
	return a.reportInstalled(result)
}

func (a *App) install(ctx context.Context, req install.Request) (install.Result, error) {
	store, err := a.Store()
	if err != nil {
		return install.Result{}, err
	}
	cache, err := a.Cache()
	if err != nil {
		return install.Result{}, err
	}
	in := install.Installer{Store: store, Cache: cache, Version: Version(), Report: a.UI, Termux: a.Termux(), AllIDs: a.userns == usernsFull}
	return in.Install(ctx, req)
}

// reportInstalled says how to go on.
func (a *App) reportInstalled(r install.Result) error {
	name := ui.ShellQuote(r.Name)
	a.UI.Infof("Installed '%s'.", r.Name)
	a.UI.Infof("Start shell: %s login %s", a.Program, name)
	if r.Record == nil {
		return nil
	}
	image, err := r.Record.Image()
	if err != nil {
		return err
	}
	if len(image.Config.Entrypoint) > 0 {
		a.UI.Infof("Run entrypoint: %s run %s", a.Program, name)
	}
	return nil
}
