package cli

import (
	"context"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"proot-distro/internal/build"
	"proot-distro/internal/compression"
	"proot-distro/internal/container"
	"proot-distro/internal/engine/native"
	"proot-distro/internal/install"
	"proot-distro/internal/platform"
	"proot-distro/internal/ui"
)

// checkDelivery finds out before a build, which may take long, whether its result can go where it
// shall.
func (a *App) checkDelivery(cmd *cobra.Command, o buildOptions) error {
	for _, file := range append([]string{o.iidFile, o.metadataFile}, o.outputs...) {
		dir := filepath.Dir(file)
		if info, err := os.Stat(dir); file != "" && (err != nil || !info.IsDir()) {
			return UsageErrorf(cmd, "%s cannot be written: there is no directory %s", ui.ShellQuote(file), ui.ShellQuote(dir))
		}
	}
	for _, file := range o.outputs {
		if _, ok := compression.FromName(file); !ok {
			return UsageErrorf(cmd, "the name %s given with --output must end in .tar, .tar.gz, .tar.xz or .tar.zst", ui.ShellQuote(file))
		}
	}
	switch {
	case o.installAs != "":
		return a.checkInstallAs(o.installAs)
	case cmd.Flags().Changed("install-as"):
		return UsageErrorf(cmd, "the name given with --install-as is empty")
	case a.userns != "":
		return UsageErrorf(cmd, "--userns is about the container that --install-as makes")
	}
	return nil
}

func (a *App) checkInstallAs(name string) error {
	if err := container.ValidateName(name); err != nil {
		return err
	}
	store, err := a.Store()
	if err != nil {
		return err
	}
	names, err := store.Names()
	if err != nil {
		return err
	}
	if slices.Contains(names, name) {
		return &container.ExistsError{Name: name}
	}
	if _, inside := native.Unshared(); a.userns == usernsFull && !inside {
		if err := native.CheckAllIDs(); err != nil {
			return &namespaceError{"--userns full", err}
		}
	}
	return nil
}

// installBuilt makes the container of --install-as.
func (a *App) installBuilt(ctx context.Context, o buildOptions, tag build.Tag, results []build.Result) error {
	archs := make([]platform.Arch, len(results))
	for i, r := range results {
		archs[i] = r.Arch
	}
	result, err := a.install(ctx, install.Request{
		Name: o.installAs, Arch: a.installedArch(archs), Insecure: o.allowInsecure,
		Source: install.Source{Typed: tag.Typed, Kind: install.FromRegistry, Ref: tag.Ref},
	})
	if err != nil {
		return err
	}
	return a.reportInstalled(result)
}

// installedArch is the one of several that suits this machine best.
func (a *App) installedArch(built []platform.Arch) platform.Arch {
	if slices.Contains(built, a.host.Arch) {
		return a.host.Arch
	}
	return built[0]
}

// installWithOwners installs what is built and in the cache in a process that has the user IDs which
// --userns full takes. The one that builds, in a mount namespace, cannot start it.
func (a *App) installWithOwners(o buildOptions, tag build.Tag) error {
	archs, err := buildPlatforms(o, a.host.Arch)
	if err != nil {
		return err
	}
	argv := []string{os.Args[0], "install", "--userns", usernsFull, "--name", o.installAs, "--architecture", string(a.installedArch(archs))}
	if a.quiet || o.progress == "quiet" {
		argv = append(argv, "--quiet")
	}
	if o.allowInsecure {
		argv = append(argv, "--allow-insecure")
	}
	status, err := native.Unshare(native.AllIDs, append(argv, tag.Typed))
	if err != nil {
		return &namespaceError{"--userns full", err}
	}
	return GuestStatus(status)
}

func (a *App) lacksAllIDs() bool { return a.userns == usernsFull && !native.HasAllIDs() }
