package cli

import (
	"github.com/spf13/cobra"

	"proot-distro/internal/install"
)

type resetOptions struct {
	allowInsecure bool
}

func newResetCommand(a *App) *cobra.Command {
	var o resetOptions
	cmd := &cobra.Command{
		Use:   "reset [OPTIONS] CONTAINER",
		Short: "Reinstall a container from scratch",
		Long: "Make a container anew from the image that it was installed from, for the same CPU architecture. All " +
			"data in it is lost, without confirmation. What the cache holds is not downloaded again. The container " +
			"stays as it is until the new one is complete.",
		Example:           "pd reset ubuntu",
		ValidArgsFunction: a.completeContainer,
		RunE:              func(cmd *cobra.Command, args []string) error { return runReset(cmd, a, o, args[0]) },
	}
	cmd.Flags().BoolVar(&o.allowInsecure, "allow-insecure", false, "accept plain http and bad certificates")
	a.usernsFlag(cmd, "give files owners or not: `IDS` is single or full (default: as it was)")
	a.quietFlag(cmd)
	return cmd
}

func runReset(cmd *cobra.Command, a *App, o resetOptions, name string) error {
	h, err := a.Host()
	if err != nil {
		return err
	}
	store, err := a.Store()
	if err != nil {
		return err
	}
	cache, err := a.Cache()
	if err != nil {
		return err
	}
	full := a.userns == usernsFull
	if a.userns == "" {
		if full, err = store.AllIDs(name); err != nil {
			return err
		}
	}
	in := install.Installer{Store: store, Cache: cache, Version: Version(), Report: a.UI, Termux: a.Termux(), AllIDs: full}
	if _, err = in.Reset(cmd.Context(), install.ResetRequest{
		Name: name, Arch: h.Arch, Insecure: o.allowInsecure,
		Auth: a.auth(),
	}); err != nil {
		return err
	}
	a.UI.Infof("Reset container '%s'.", name)
	return nil
}
