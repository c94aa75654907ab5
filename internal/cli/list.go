package cli

import (
	"github.com/spf13/cobra"

	"proot-distro/internal/ui"
)

type listOptions struct {
	quiet  bool
	images bool
}

func newListCommand(a *App) *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use:         "list [OPTIONS]",
		Aliases:     []string{"li", "ls"},
		Short:       "List installed containers",
		Long:        "List installed containers, or cached images.",
		Example:     "pd list\n\n# Every container's name, for a script\npd list -q",
		Annotations: map[string]string{harmless: "true"},
		RunE:        func(*cobra.Command, []string) error { return runList(a, o) },
	}
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "print names only, one a line")
	cmd.Flags().BoolVarP(&o.images, "image", "i", false, "list cached images instead of containers")
	return cmd
}

func runList(a *App, o listOptions) error {
	store, err := a.Store()
	if err != nil {
		return err
	}
	names, err := store.Names()
	if err != nil {
		return err
	}
	t := ui.Table{Header: []string{"NAME", "IMAGE", "ARCHITECTURE"}, Flexible: []int{1}}
	for _, n := range names {
		if o.quiet {
			a.UI.Line(n)
		}
		t.Rows = append(t.Rows, []string{n, "", ""})
	}
	a.UI.Table(t)
	return nil
}
