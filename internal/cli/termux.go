package cli

import (
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"proot-distro/internal/engine/proot"
	"proot-distro/internal/session"
	"proot-distro/internal/ui"
)

// termuxFlags adds the options of login and run that exist on Termux only.
func (a *App) termuxFlags(cmd *cobra.Command, w *session.Options) {
	f := cmd.Flags()
	f.BoolVar(&w.SharedTmp, "shared-tmp", false, "see Termux's temporary files in /tmp")
	f.BoolVar(&w.SharedX11, "shared-x11", false, "reach Termux's X server and sound server")
	f.BoolFunc("isolated", "see nothing of Android, Termux and the shared storage", mode(w, session.Isolated))
	f.BoolFunc("minimal", "see nothing but /dev, /proc and /sys, with no variables but --env's", mode(w, session.Minimal))
	f.BoolVar(&w.NoHardLinks, "no-link2symlink", false, "do not emulate hard links (if SELinux is permissive)")
	f.BoolVar(&w.NoSysVIPC, "no-sysvipc", false, "do not emulate System V IPC (if the kernel has it)")
	f.BoolVar(&w.NoKillOnExit, "no-kill-on-exit", false, "wait for background processes at the end")
	cmd.MarkFlagsMutuallyExclusive("isolated", "minimal")
	a.termuxOnly(cmd, "elsewhere, --bind /tmp and --bind /tmp/.X11-unix share the same", "shared-tmp", "shared-x11")
	a.termuxOnly(cmd, "elsewhere, a container sees nothing of the host unless it is asked for", "isolated", "minimal")
	a.termuxOnly(cmd, "what it turns off makes up for restrictions of Android", "no-link2symlink", "no-sysvipc", "no-kill-on-exit")
}

// mode is a switch that chooses one; written as --isolated=false it chooses nothing.
func mode(w *session.Options, to session.Mode) func(string) error {
	return func(value string) error {
		on, err := strconv.ParseBool(value)
		if on {
			w.Mode = to
		}
		return err
	}
}

// newProot finds proot. Where it is missing on Termux and somebody is there to answer, it
// offers to install it.
func (a *App) newProot(c proot.Config) (*proot.Engine, error) {
	eng, err := proot.New(c)
	var missing *proot.NotFoundError
	if !errors.As(err, &missing) || !a.Termux() || !ui.IsTerminal(a.Stdin) || !ui.IsTerminal(a.Stderr) {
		return eng, err
	}
	install := []string{"pkg", "install", "-y", "-q", "proot"}
	if !a.confirm(fmt.Sprintf("proot is not installed. Install it now with '%s'?", ui.ShellJoin(install...))) {
		return nil, err
	}
	cmd := exec.Command(install[0], install[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.Stdin, a.Stderr, a.Stderr
	if runErr := cmd.Run(); runErr != nil {
		return nil, fmt.Errorf("install proot: %s: %w", ui.ShellJoin(install...), runErr)
	}
	return proot.New(c)
}

// confirm asks a question on the terminal; Enter means yes.
func (a *App) confirm(question string) bool {
	a.UI.Message(question + " [Y/n]")
	answer := make([]byte, 64)
	n, err := a.Stdin.Read(answer) // a line, as terminals give them
	word := strings.ToLower(strings.TrimSpace(string(answer[:n])))
	return err == nil && (word == "" || word == "y" || word == "yes")
}
