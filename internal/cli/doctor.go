package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"proot-distro/internal/doctor"
	"proot-distro/internal/oci"
	"proot-distro/internal/ui"
)

type doctorOptions struct {
	registries []string
	network    bool
	insecure   bool
	json       bool
	profile    bool
}

// errNoEngine is doctor's verdict that containers cannot be run here.
var errNoEngine = errors.New("no engine can run containers on this machine")

// errUnreachable is doctor's verdict about a registry that it was asked for.
var errUnreachable = errors.New("not every registry can be reached")

func newDoctorCommand(a *App) *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor [OPTIONS]",
		Short: "Say what works on this machine, and why not",
		Long: "Try out what containers need on this machine: both engines, emulators of other architectures, user IDs, " +
			"the disk, other programs, credentials. Each thing is ok, a note (it could be better, or is not there) or a " +
			"problem, and what can be done about it stands below. Nothing is changed, and the network is " +
			"used only when asked for.\n\n" +
			"The exit code is 0 when some engine can run containers, 6 when none can, and 5 when a registry that was " +
			"asked for cannot be reached.\n\n" +
			"With --json, the report is one object: schema (1), version, usable (some engine works), engine (what login " +
			"takes now, or empty) and findings, each with id, status (ok, note or problem), text, and as far as there is " +
			"any, fix and facts. An id stays what it is: host.system, host.user, engine.native, engine.proot, engine.login, " +
			"emulator.ARCH, ids.full, disk.state, disk.cache, disk.usage, containers, program.git, program.xz, credentials, registry.HOST.",
		Example: "pd doctor\n\n# Can Docker Hub be reached, and another registry?\npd doctor --network --registry ghcr.io\n\n" +
			"# For a script\npd doctor --json",
		Annotations: map[string]string{harmless: "true"},
		RunE:        func(cmd *cobra.Command, _ []string) error { return runDoctor(cmd, a, o) },
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.Flags().BoolVar(&o.network, "network", false, "ask Docker Hub, too")
	cmd.Flags().StringArrayVar(&o.registries, "registry", nil, "ask the registry at `HOST[:PORT]`, too (repeatable)")
	cmd.Flags().BoolVar(&o.insecure, "allow-insecure", false, "accept plain http and bad certificates")
	cmd.Flags().BoolVar(&o.json, "json", false, "print the report as JSON")
	cmd.Flags().BoolVar(&o.profile, "apparmor-profile", false, "print an AppArmor profile that lets this program have user namespaces")
	cmd.MarkFlagsMutuallyExclusive("json", "apparmor-profile")
	return cmd
}

func runDoctor(cmd *cobra.Command, a *App, o doctorOptions) error {
	if o.profile {
		return printAppArmorProfile(a)
	}
	c, err := doctorConfig(cmd, a, o)
	if err != nil {
		return err
	}
	report := doctor.Examine(cmd.Context(), c)
	if cmd.Context().Err() != nil {
		return context.Cause(cmd.Context())
	}
	if o.json {
		err = printReportJSON(a, report)
	} else {
		printReport(a, report)
	}
	switch {
	case err != nil:
		return err
	case !report.Usable:
		return errNoEngine
	case report.Unreachable():
		return errUnreachable
	}
	return nil
}

func doctorConfig(cmd *cobra.Command, a *App, o doctorOptions) (c doctor.Config, err error) {
	c = doctor.Config{
		Program: a.Program, Version: Version(), Insecure: o.insecure,
		Auth: a.auth(),
	}
	if o.insecure && !o.network && len(o.registries) == 0 {
		return c, UsageErrorf(cmd, "option --allow-insecure goes with --registry only")
	}
	if o.network {
		o.registries = append([]string{oci.DockerHub}, o.registries...)
	}
	for _, name := range o.registries {
		ref, err := oci.ParseRef(name + "/image")
		if err != nil || ref.Registry != name {
			return c, UsageErrorf(cmd, "%s is not a registry as references name it: ghcr.io, localhost:5000", ui.ShellQuote(name))
		}
		c.Registries = append(c.Registries, ref)
	}
	if c.Host, err = a.Host(); err != nil {
		return c, err
	}
	if c.Store, err = a.Store(); err != nil {
		return c, err
	}
	if c.Cache, err = a.Cache(); err != nil {
		return c, err
	}
	if a.Getenv(engineEnv) != "" {
		c.EngineFrom = engineEnv
	}
	c.Engine, c.EngineErr = a.engineWish("")
	return c, nil
}

func printReportJSON(a *App, r doctor.Report) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	a.UI.Print(string(text) + "\n")
	return nil
}

// printReport writes the findings under the headings of their sections.
func printReport(a *App, r doctor.Report) {
	const column = 10 // behind the longest status
	h := &helpText{app: a, width: a.helpWidth()}
	if a.UI.Width() == 0 {
		h.width = math.MaxInt // a line each, for grep
	}
	h.wrap("proot-distro "+r.Version, 0, 0)
	section := ""
	for _, f := range r.Findings {
		if f.Section() != section {
			section = f.Section()
			h.heading(doctor.Heading(section))
		}
		h.wrapAfter(ui.Pad("  "+string(f.Status), column), ui.Clean(f.Text), column)
		if f.Fix != "" {
			h.wrap(ui.Clean(f.Fix), column, column)
		}
	}
	a.UI.Print(h.String())
}

func printAppArmorProfile(a *App) error {
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	a.UI.Print(doctor.AppArmorProfile(a.Program, self))
	return nil
}
