package cli

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"proot-distro/internal/container"
	"proot-distro/internal/engine"
	"proot-distro/internal/engine/native"
	"proot-distro/internal/engine/proot"
	"proot-distro/internal/ui"
)

type killOptions struct {
	signal unix.Signal
	all    bool
}

func newKillCommand(a *App) *cobra.Command {
	o := killOptions{signal: unix.SIGTERM}
	cmd := &cobra.Command{
		Use:   "kill [OPTIONS] [PID | CONTAINER]...",
		Short: "Send a signal to running sessions",
		Long: "Send a signal to every process of running sessions, named by the process ID that ps shows, or " +
			"by their container. A session ends when its last process does.",
		Example: "pd kill debian\n\n# What does not listen\npd kill --signal KILL debian\n\npd kill --all",
		RunE:    func(cmd *cobra.Command, args []string) error { return runKill(a, cmd, o, args) },
	}
	cmd.Flags().VarP((*signalValue)(&o.signal), "signal", "s", "send `SIG` instead of TERM: a name or a number")
	cmd.Flags().BoolVar(&o.all, "all", false, "signal all sessions")
	a.quietFlag(cmd)
	cmd.ValidArgsFunction = a.completeSessions
	_ = cmd.RegisterFlagCompletionFunc("signal", cobra.FixedCompletions(
		[]cobra.Completion{"TERM", "KILL", "INT", "HUP", "QUIT", "STOP", "CONT", "USR1", "USR2", "WINCH"},
		cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func runKill(a *App, cmd *cobra.Command, o killOptions, targets []string) error {
	switch {
	case o.all && len(targets) > 0:
		return UsageErrorf(cmd, "option --all leaves nothing to name")
	case !o.all && len(targets) == 0:
		return UsageErrorf(cmd, "%s needs a PID, a CONTAINER or --all", a.path(cmd))
	}
	store, err := a.Store()
	if err != nil {
		return err
	}
	running, err := store.Sessions()
	if err != nil {
		return err
	}
	var failed failures
	chosen := running
	if !o.all {
		chosen = nil
		for _, target := range targets {
			found := sessionsOf(running, target)
			if len(found) == 0 {
				failed.add(&missingError{what: fmt.Sprintf("no session %s is running", ui.ShellQuote(target)), hint: "ps"})
			}
			chosen = append(chosen, found...)
		}
	} else if len(running) == 0 {
		a.UI.Infof("No session is running.")
	}
	for i, s := range chosen {
		err := signalSession(a, s, o.signal)
		var ended *missingError
		if i > 0 && errors.As(err, &ended) {
			continue // it ended with one before it, which it had joined
		}
		failed.add(err)
	}
	return failed.result()
}

// sessionsOf finds sessions by process ID, else by container: a container may
// have a number for a name.
func sessionsOf(running []container.Session, target string) (found []container.Session) {
	for _, s := range running {
		if strconv.Itoa(s.PID) == target {
			return []container.Session{s}
		}
		if s.Container == target {
			found = append(found, s)
		}
	}
	return found
}

func signalSession(a *App, s container.Session, sig unix.Signal) error {
	signal := map[string]func() (int, error){
		engineNative: func() (int, error) { return signalNative(s.PID, sig) },
		engineProot:  func() (int, error) { return proot.Signal(s.PID, a.sessionFile(s.PID), sig) },
	}[s.Engine]
	if signal == nil {
		return fmt.Errorf("session %d runs in engine %s, which this version does not know", s.PID, ui.ShellQuote(s.Engine))
	}
	reached, err := signalSoon(s.PID, signal)
	if err == nil && reached == 0 {
		return &missingError{what: fmt.Sprintf("no session %d is running any more", s.PID), hint: "ps"}
	}
	if err != nil {
		return fmt.Errorf("signal session %d of container '%s': %w", s.PID, s.Container, err)
	}
	processes := "1 process"
	if reached > 1 {
		processes = fmt.Sprintf("%d processes", reached)
	}
	a.UI.Infof("Sent %s to session %d of container '%s' (%s).", signalName(sig), s.PID, s.Container, processes)
	return nil
}

func signalName(sig unix.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(sig)) // a real-time one
}

// signalSoon tries again for a moment while nothing was reached: a session that has just been
// registered is about to have its first process.
func signalSoon(session int, try func() (int, error)) (reached int, err error) {
	const patience = 500 * time.Millisecond
	for start := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		reached, err := try()
		if err != nil || reached > 0 || unix.Kill(session, 0) != nil || time.Since(start) > patience {
			return reached, err
		}
	}
}

// sessionFile is what every process of a session keeps open, unless it has closed it.
func (a *App) sessionFile(session int) string {
	dir := a.host.Dirs.Sessions()
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	return filepath.Join(dir, strconv.Itoa(session)+".json")
}

// signalNative signals all guests of a native session, which ends with its first one.
func signalNative(session int, sig unix.Signal) (reached int, err error) {
	guests, err := native.Guests(session)
	if err != nil {
		return 0, err
	}
	return engine.SignalAll(guests, sig)
}

// completeSessions offers the containers in which something runs.
func (a *App) completeSessions(*cobra.Command, []string, string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
	if store, err := a.Store(); err == nil {
		sessions, _ := store.Sessions() // completion is silent
		for _, s := range sessions {
			names = append(names, cobra.CompletionWithDesc(strconv.Itoa(s.PID), s.Container))
			names = append(names, s.Container)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// signalValue is a [pflag.Value]: TERM, SIGTERM, term or 15.
type signalValue unix.Signal

func (v *signalValue) Set(s string) error {
	if n, err := strconv.Atoi(s); err == nil && n >= 1 && n <= 64 {
		*v = signalValue(n)
		return nil
	}
	name := strings.ToUpper(s)
	sig := unix.SignalNum("SIG" + strings.TrimPrefix(name, "SIG"))
	if sig == 0 {
		return errors.New("no such signal; TERM, KILL, INT and HUP are common ones")
	}
	*v = signalValue(sig)
	return nil
}

func (v *signalValue) String() string {
	return strings.TrimPrefix(unix.SignalName(unix.Signal(*v)), "SIG")
}

func (v *signalValue) Type() string { return "SIG" }
