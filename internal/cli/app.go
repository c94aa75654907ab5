package cli

import (
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/spf13/cobra"

	"proot-distro/internal/container"
	"proot-distro/internal/engine/native"
	"proot-distro/internal/host"
	"proot-distro/internal/image"
	"proot-distro/internal/registry"
	"proot-distro/internal/ui"
)

// App is what commands work with. What costs time is made when it is asked for.
type App struct {
	Program               string // the name it was called by: proot-distro or pd
	UI                    *ui.UI
	Stdin, Stdout, Stderr *os.File
	Getenv                func(string) string

	args           []string // after the program's name
	command        string   // the command that runs; empty before that is known
	host           *host.Host
	hostErr        error
	commands       []*cobra.Command // in the table's order
	quiet, verbose bool             // the shared options
	userns         string           // --userns
	watch          *signalWatch
	documenting    bool // options for every host are shown
}

func newApp(args []string, stdin, stdout, stderr *os.File) *App {
	a := &App{
		Program: "proot-distro",
		UI:      ui.Open(stdout, stderr),
		Stdin:   stdin, Stdout: stdout, Stderr: stderr,
		Getenv: os.Getenv,
	}
	if len(args) > 0 && filepath.Base(args[0]) == "pd" {
		a.Program = "pd"
	}
	a.args = args[min(1, len(args)):]
	a.host, a.hostErr = host.Detect(host.SystemEnv())
	return a
}

// Host describes this machine.
func (a *App) Host() (*host.Host, error) { return a.host, a.hostErr }

// Termux reports whether the options that exist on Termux only apply.
func (a *App) Termux() bool { return a.host != nil && a.host.Termux }

// Store is the collection of containers.
func (a *App) Store() (*container.Store, error) {
	h, err := a.Host()
	if err != nil {
		return nil, err
	}
	store := container.NewStore(h.Dirs)
	store.Report = a.UI
	return store, nil
}

// Cache is the cache of images.
func (a *App) Cache() (*image.Cache, error) {
	h, err := a.Host()
	if err != nil {
		return nil, err
	}
	cache := image.OpenCache(h.Dirs)
	cache.Command = a.command
	return cache, nil
}

// auth is what the person has given for registries.
func (a *App) auth() registry.Auth { return registry.Auth{UserPass: a.Getenv("PD_DOCKER_AUTH")} }

// ReleaseSignals takes from signals the effect that they have on commands.
func (a *App) ReleaseSignals() {
	if a.watch != nil {
		a.watch.release()
	}
}

// verbosity is the level that --quiet and --verbose ask for.
func (a *App) verbosity() ui.Level {
	switch {
	case a.quiet:
		return ui.Quiet
	case a.verbose:
		return ui.Verbose
	}
	return ui.Normal
}

// path is how the person calls cmd: "pd install".
func (a *App) path(cmd *cobra.Command) string {
	if !cmd.HasParent() {
		return a.Program
	}
	return a.Program + " " + cmd.Name()
}

// version is set by the linker: -X proot-distro/internal/cli.version=1.2.3.
var version string

// Version is the release of the program, or the module version that the Go
// tool recorded.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// warnRoot says once that the program is not meant for root.
func (a *App) warnRoot() {
	if _, inside := native.Unshared(); os.Geteuid() == 0 && !inside && a.UI.Level() > ui.Quiet {
		a.UI.Warnf("running as root: a mistake in a container can harm this system; an ordinary user is enough")
	}
}
