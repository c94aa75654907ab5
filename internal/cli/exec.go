package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"proot-distro/internal/container"
	"proot-distro/internal/engine"
	"proot-distro/internal/engine/native"
	"proot-distro/internal/session"
	"proot-distro/internal/ui"
)

type execOptions struct {
	wishes   session.Options
	envFiles []string
	command  []string // what stands after --
}

func newExecCommand(a *App) *cobra.Command {
	var o execOptions
	cmd := &cobra.Command{
		Use:   "exec [OPTIONS] CONTAINER (-- COMMAND ...)",
		Short: "Run a command inside a running session",
		Long: "Run COMMAND beside what already runs in a container, set up like the oldest session there: with its binds " +
			"and names, as its user, in its directory and with its environment. Another --user starts there, too, as with " +
			"docker exec; but in its own home if the session started in the home of its user. COMMAND is not run by a shell. In a " +
			"session of the native engine it sees the same processes, mounts and network, and it is ended when that " +
			"session ends; under proot it gets a proot of its own, which ends with COMMAND.",
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
	f.StringVarP(&w.User, "user", "u", "", "become `USER`: a name, a UID, NAME:GROUP or UID:GID (default: the session's)")
	f.StringVarP(&w.WorkDir, "work-dir", "w", "", "start in `PATH` of the container (default: where the session started)")
	f.StringArrayVarP(&w.Env, "env", "e", nil, "set `VAR=VALUE` in the container; VAR alone takes the host's value (repeatable)")
	a.envFileFlag(cmd, &o.envFiles)
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
	if o.wishes.Env, err = a.readEnvFiles(o.envFiles, o.wishes.Env); err != nil {
		return err
	}
	s, err := session.Open(c, h, a.UI)
	if err != nil {
		return err
	}
	defer s.Close()
	running, err := a.sessionsOf(c.Name)
	if err != nil {
		return err
	}
	for _, other := range running {
		var setup engine.Spec
		if json.Unmarshal(other.Setup, &setup) != nil {
			continue // another version of this program has started it
		}
		spec, err := s.Exec(o.wishes, o.command, setup)
		if err != nil {
			return err
		}
		join := joinNative
		if other.Engine == engineProot || a.Termux() {
			join = a.joinProot
		}
		process, err := join(s, spec, other)
		if errors.Is(err, native.ErrNotJoinable) {
			continue
		}
		if err != nil {
			return err
		}
		return a.become(c, process, container.Session{
			PID: os.Getpid(), Container: c.Name, Command: o.command, Engine: other.Engine, Arch: other.Arch,
			User: userName(spec), Started: time.Now(), Setup: other.Setup,
		})
	}
	return &missingError{what: fmt.Sprintf("no session of container '%s' is running that a command can join", c.Name), hint: "ps",
		advice: []string{fmt.Sprintf("To start one: %s login %s -- %s", a.Program, ui.ShellQuote(c.Name), ui.ShellJoin(o.command...))}}
}

// sessionsOf lists the sessions of a container, the oldest first.
func (a *App) sessionsOf(name string) ([]container.Session, error) {
	store, err := a.Store()
	if err != nil {
		return nil, err
	}
	all, err := store.Sessions()
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(s container.Session) bool { return s.Container != name })
	slices.SortStableFunc(all, func(s, t container.Session) int { return s.Started.Compare(t.Started) })
	return all, nil
}

// joinNative prepares spec to run in the namespaces of another session.
func joinNative(_ *session.Session, spec engine.Spec, other container.Session) (engine.Process, error) {
	return native.Join(other.PID, spec)
}

// joinProot prepares spec to run under a proot of its own, set up like that of another session.
// Guests of proot share files, processes and names with the host, so that they share them with each
// other. On Termux, a guest that has this program's files can write what is known of sessions; it
// gains nothing by that which it could not do itself.
func (a *App) joinProot(s *session.Session, spec engine.Spec, _ container.Session) (engine.Process, error) {
	spec, err := s.Locate(spec)
	if err != nil {
		return nil, err
	}
	process, err := a.prepareProot(a.host, spec)
	if err != nil {
		return nil, err
	}
	return process, s.Prepare(spec)
}
