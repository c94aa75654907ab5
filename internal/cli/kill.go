package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"proot-distro/internal/container"
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
	signal := map[string]func(int, unix.Signal) (int, error){
		engineNative: signalNative,
		engineProot:  func(pid int, sig unix.Signal) (int, error) { return signalProot(a.sessionFile(pid), pid, sig) },
	}[s.Engine]
	if signal == nil {
		return fmt.Errorf("session %d runs in engine %s, which this version does not know", s.PID, ui.ShellQuote(s.Engine))
	}
	reached, err := signalSoon(s.PID, func() (int, error) { return signal(s.PID, sig) })
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

// signalProot signals what proot traces, since proot itself ignores most
// signals. The session's process is proot, or proot's parent when it waits for the
// guest's exit code; when that parent was killed, proot is found by the session's file. After
// a SIGKILL proot is killed too: with its last tracee gone it would end by itself, but
// new ones may be born meanwhile.
func signalProot(file string, session int, sig unix.Signal) (reached int, err error) {
	tracers := append(childrenOf("/proc", session), session)
	if unix.Kill(session, 0) != nil {
		tracers = holdersOf("/proc", file)
	}
	for _, tracer := range tracers {
		guests, err := proot.Tracees(tracer)
		if err != nil {
			return reached, err
		}
		n, err := signalAll(guests, sig)
		reached += n
		if err != nil {
			return reached, err
		}
		if len(guests) > 0 && sig == unix.SIGKILL {
			_ = unix.Kill(tracer, sig) // it may have ended with its last tracee
		}
	}
	return reached, nil
}

// holdersOf lists the processes that have a file open, as far as we may see that.
func holdersOf(proc, file string) (holders []int) {
	dirs, _ := filepath.Glob(filepath.Join(proc, "[0-9]*", "fd")) // the pattern is sound
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		fds, _ := os.ReadDir(dir) // it has ended, or is not ours
		if err == nil && slices.ContainsFunc(fds, func(fd os.DirEntry) bool {
			target, err := os.Readlink(filepath.Join(dir, fd.Name()))
			return err == nil && target == file
		}) {
			holders = append(holders, pid)
		}
	}
	return holders
}

// signalNative signals all guests of a native session, which ends with its first one.
func signalNative(session int, sig unix.Signal) (reached int, err error) {
	guests, err := native.Guests(session)
	if err != nil {
		return 0, err
	}
	return signalAll(guests, sig)
}

// signalAll counts the processes that were still there.
func signalAll(pids []int, sig unix.Signal) (reached int, err error) {
	for _, pid := range pids {
		if err := unix.Kill(pid, sig); err == nil {
			reached++
		} else if !errors.Is(err, unix.ESRCH) {
			return reached, err
		}
	}
	return reached, nil
}

// childrenOf lists the processes whose parent is pid (proc_pid_stat(5)).
func childrenOf(proc string, pid int) (children []int) {
	stats, _ := filepath.Glob(filepath.Join(proc, "[0-9]*", "stat")) // the pattern is sound
	for _, stat := range stats {
		data, err := os.ReadFile(stat)
		if err != nil {
			continue // it has ended
		}
		// "12 (a name) S 1 …": the name may hold anything, parentheses too.
		fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
		if len(fields) < 2 || fields[1] != strconv.Itoa(pid) {
			continue
		}
		if child, err := strconv.Atoi(filepath.Base(filepath.Dir(stat))); err == nil {
			children = append(children, child)
		}
	}
	return children
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
