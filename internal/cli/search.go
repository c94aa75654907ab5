package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"proot-distro/internal/registry"
	"proot-distro/internal/ui"
)

type searchOptions struct {
	limit int
	quiet bool
}

func newSearchCommand(a *App) *cobra.Command {
	var o searchOptions
	cmd := &cobra.Command{
		Use:         "search [OPTIONS] QUERY...",
		Short:       "Find images on Docker Hub",
		Long:        "Find images on Docker Hub by name and description, best matches first.",
		Example:     "pd search debian\n\n# The five best names, for a script\npd search --quiet --limit 5 web server",
		Annotations: map[string]string{harmless: "true"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.limit < 1 {
				return UsageErrorf(cmd, "option --limit needs a number of at least 1")
			}
			return runSearch(cmd.Context(), a, o, strings.Join(args, " "))
		},
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.Flags().IntVar(&o.limit, "limit", 25, "show at most `N` results (default 25)")
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "print names only, one a line")
	return cmd
}

func runSearch(ctx context.Context, a *App, o searchOptions, query string) error {
	found, err := registry.Search(ctx, registry.SearchRequest{Query: query, Limit: o.limit, Version: Version()})
	if err != nil {
		return err
	}
	t := ui.Table{Header: []string{"NAME", "STARS", "OFFICIAL", "DESCRIPTION"}, Flexible: []int{3, 0}}
	for _, r := range found {
		if o.quiet {
			a.UI.Line(r.Name)
			continue
		}
		official := ""
		if r.Official {
			official = "yes"
		}
		t.Rows = append(t.Rows, []string{r.Name, fmt.Sprint(r.Stars), official, r.Description})
	}
	switch {
	case len(t.Rows) > 0:
		a.UI.Table(t)
	case !o.quiet:
		a.UI.Line("Docker Hub has nothing for " + ui.ShellQuote(query) + ".")
	}
	return nil
}
