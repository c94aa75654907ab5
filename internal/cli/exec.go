package cli

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"proot-distro/internal/container"
	"proot-distro/internal/engine"
	"proot-distro/internal/engine/native"
	"proot-distro/internal/session"
	"proot-distro/internal/ui"
)

type execOptions struct {
	wishes  session.Options
	command []string // what stands after --
}

func newExecCommand(a *App) *cobra.Command {
	var o execOptions
	cmd := &cobra.Command{
		Use:   "exec [OPTIONS] CONTAINER (-- COMMAND ...)",
		Short: "Run a command inside a running session",
		Long: "Run COMMAND beside what already runs in a container: it sees the same processes, mounts, hostname and " +
			"network. The session must be one of the native engine. COMMAND is not run by a shell, and it is ended " +
			"when the session that it joined ends.",
		Example: "pd exec web -- ps ax\n\n# A shell beside the server\npd exec web -- bash -l",
		RunE: func(cmd *cobra.Command, args []string) error {
			own, inner := splitInner(cmd, args)
			o.command = inner
			if len(inner) == 0 {
				return UsageErrorf(cmd, "%s needs a COMMAND after --", a.path(cmd))
			}
			return runExec(a, o, own[0])
		},
	}
	cmd.ValidArgsFunction = a.completeContainer
	f, w := cmd.Flags(), &o.wishes
	f.StringVarP(&w.User, "user", "u", "", "become `USER`: a name, a UID, NAME:GROUP or UID:GID (default root)")
	f.StringVarP(&w.WorkDir, "work-dir", "w", "", "start in `PATH` of the container")
	f.StringArrayVarP(&w.Env, "env", "e", nil, "set `VAR=VALUE` in the container; VAR alone takes the host's value (repeatable)")
	return cmd
}

func runExec(a *App, o execOptions, name string) error {
	c, err := a.openContainer(sessionRequest{verb: "exec", container: name})
	if err != nil {
		return err
	}
	defer c.Close()
	return SessionError(a.execIn(c, o))
}

func (a *App) execIn(c *container.Container, o execOptions) error {
	h, err := a.Host()
	if err != nil {
		return err
	}
	s, err := session.Open(c, h, a.UI)
	if err != nil {
		return err
	}
	defer s.Close()
	spec, err := s.Exec(o.wishes, o.command)
	if err != nil {
		return err
	}
	process, err := a.joinSession(c.Name, spec)
	if err != nil {
		return err
	}
	return a.become(c, process, container.Session{
		PID: os.Getpid(), Container: c.Name, Command: spec.Argv, Engine: engineNative, Arch: spec.Arch,
		User: userName(spec), Started: time.Now(),
	})
}

// joinSession prepares spec to run in the oldest session of a container that can be joined.
func (a *App) joinSession(name string, spec engine.Spec) (engine.Process, error) {
	store, err := a.Store()
	if err != nil {
		return nil, err
	}
	running, err := store.Sessions()
	if err != nil {
		return nil, err
	}
	others := false
	for _, s := range running {
		if s.Container != name {
			continue
		}
		if s.Engine != engineNative || a.Termux() { // there, a guest may have written it
			others = true
			continue
		}
		process, err := native.Join(s.PID, spec)
		if !errors.Is(err, native.ErrNotJoinable) {
			return process, err
		}
	}
	if others {
		return nil, fmt.Errorf("the sessions of container '%s' run under proot, which no command can join: start another one with '%s login %s'",
			name, a.Program, ui.ShellQuote(name))
	}
	return nil, &missingError{what: fmt.Sprintf("no session of container '%s' is running", name), hint: "ps"}
}
