package session

import (
	"cmp"
	"fmt"
	"path"

	"proot-distro/internal/engine"
	"proot-distro/internal/guest"
)

// Exec returns the spec of a command beside what already runs in the container, set up
// like that: with its mounts and names, and unless o says otherwise as its user, in its
// directory and with its environment. Another user of a session that is in its user's home is in its own. The program is as it was given: only where
// everything is mounted it can be looked for, by the engine or by [Session.Locate].
func (s *Session) Exec(o Options, command []string, running engine.Spec) (engine.Spec, error) {
	user := o.User
	if user == "" && !s.termux {
		user = fmt.Sprintf("%d:%d", running.User.UID, running.User.GID)
	}
	who, err := s.user(user, o.User != "")
	if err != nil {
		return engine.Spec{}, fmt.Errorf("container %s: %w", s.name, err)
	}
	spec := running
	spec.Container, spec.Rootfs, spec.Argv = s.name, s.rootfsPath, command
	if o.User != "" {
		spec.User = engine.User{UID: who.UID, GID: who.GID, Groups: who.Groups, Real: s.termux}
	}
	switch {
	case o.WorkDir != "":
		if spec.WorkDir = o.WorkDir; !path.IsAbs(o.WorkDir) {
			return engine.Spec{}, fmt.Errorf("--work-dir %q: it must be an absolute path", o.WorkDir)
		}
	case o.User != "" && running.WorkDir == variable(running.Env, "HOME"): // which others may not enter
		if spec.WorkDir, err = s.loginDir(o, spec, who); err != nil {
			return engine.Spec{}, err
		}
	}
	spec.Env, err = s.execEnvironment(o, running.Env, who)
	return spec, err
}

// execEnvironment is that of the session, with this terminal, and what o changes.
func (s *Session) execEnvironment(o Options, running []string, who guest.User) ([]string, error) {
	var env environ
	for _, entry := range running {
		env.add(entry)
	}
	if o.User != "" && variable(running, "USER") != "" {
		env.set("HOME", who.Home)
		env.set("USER", who.Name)
	}
	env.set("TERM", cmp.Or(s.host.Getenv("TERM"), "xterm-256color"))
	if err := s.addWishes(&env, o.Env, nil); err != nil {
		return nil, err
	}
	return env.entries, nil
}

// Locate finds the program of a spec in the container and its binds, for engines that
// leave this to others.
func (s *Session) Locate(spec engine.Spec) (engine.Spec, error) {
	programs := s.programs(spec)
	program, err := programs.LookPath(spec.Argv[0], cmp.Or(variable(spec.Env, "PATH"), defaultPath), spec.WorkDir)
	if err != nil {
		return engine.Spec{}, fmt.Errorf("container %s: %w", s.name, err)
	}
	spec.Argv = append([]string{program}, spec.Argv[1:]...)
	spec.Shell = ""
	if !isBareShell(spec.Argv) {
		spec.Shell = guest.POSIXShell(programs)
	}
	return s.finish(spec)
}
