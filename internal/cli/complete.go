package cli

import (
	"slices"

	"github.com/spf13/cobra"

	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
)

// Values for completion. They are asked for by the shell while a person types:
// failures are silent, and nothing here waits for a lock or the network.

// completeContainers offers the names of containers, each once.
func (a *App) completeContainers(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return a.containersBut(args), cobra.ShellCompDirectiveNoFileComp
}

// completeContainer offers the names of containers for the first positional;
// what follows belongs to the guest.
func (a *App) completeContainer(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.containersBut(nil), cobra.ShellCompDirectiveNoFileComp
}

func (a *App) containersBut(named []string) []cobra.Completion {
	store, err := a.Store()
	if err != nil {
		return nil
	}
	names, err := store.Names()
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(names, func(n string) bool { return slices.Contains(named, n) })
}

// completeImages offers the references of cached images, and files: most
// commands that take an image take an archive too.
func (a *App) completeImages(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.cachedImages(), cobra.ShellCompDirectiveDefault
}

// completeCached offers the references of cached images for the first positional.
func (a *App) completeCached(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.cachedImages(), cobra.ShellCompDirectiveNoFileComp
}

// cachedImages leaves out what is no reference, as a guest on Termux may have written it: shells put
// what all candidates begin with on the command line as it is.
func (a *App) cachedImages() (refs []cobra.Completion) {
	cache, err := a.Cache()
	if err != nil {
		return nil
	}
	records, err := cache.List()
	if err != nil {
		return nil
	}
	for _, r := range records {
		if _, err := oci.ParseRef(r.ImageRef); err == nil {
			refs = append(refs, r.ImageRef)
		}
	}
	slices.Sort(refs)
	return slices.Compact(refs)
}

// completeCommands offers the names of commands.
func (a *App) completeCommands(_ *cobra.Command, args []string, _ string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
	if len(args) == 0 {
		for _, c := range a.commands {
			if !c.Hidden {
				names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// archFlag adds --architecture; the value is checked and normalised when it is
// parsed. Empty means that none was given.
func (a *App) archFlag(cmd *cobra.Command, arch *platform.Arch, text string) {
	cmd.Flags().VarP((*archValue)(arch), "architecture", "a", text)
	names := make([]cobra.Completion, 0, len(platform.All()))
	for _, known := range platform.All() {
		names = append(names, cobra.CompletionWithDesc(string(known), known.Docker()))
	}
	_ = cmd.RegisterFlagCompletionFunc("architecture", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
}

// archValue is a [pflag.Value] in any spelling of an architecture.
type archValue platform.Arch

func (v *archValue) Set(s string) error {
	arch, err := platform.Parse(s)
	if err == nil {
		*v = archValue(arch)
	}
	return err
}

func (v *archValue) String() string { return string(*v) }

func (v *archValue) Type() string { return "ARCH" }
