package session

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"proot-distro/internal/engine"
	"proot-distro/internal/guest"
)

// engineBinds are destinations that every engine provides by itself.
var engineBinds = []string{"/dev", "/proc", "/sys"}

// binds lists the host paths that the guest sees: those of every session, what options
// share, then the person's own in their order.
func (s *Session) binds(o Options, user guest.User, emulated bool) ([]engine.Bind, error) {
	binds, err := s.linkBind(o)
	if err != nil {
		return nil, err
	}
	binds = append(append(binds, s.hostBinds(o, emulated)...), s.sharedDirs(o)...)
	if o.SharedHome {
		bind, err := s.sharedHome(user)
		if err != nil {
			return nil, err
		}
		binds = append(binds, bind)
	}
	for _, wish := range o.Binds {
		bind, err := parseBind(wish)
		if err != nil {
			return nil, fmt.Errorf("--bind %q: %w", wish, err)
		}
		if other := overlap(binds, bind.Target); other != "" {
			s.rep.Warnf("--bind %s: its destination hides another bind (%s)", wish, other)
		}
		binds = append(binds, bind)
	}
	return binds, nil
}

// linkBind shows the root filesystem at its path of the host, if links in it that stand in for
// hard ones lead there (package l2s). Termux's proot knows what they mean.
func (s *Session) linkBind(o Options) ([]engine.Bind, error) {
	if s.host.Termux {
		return nil, nil
	}
	linked, err := s.linked()
	if err != nil || !linked {
		return nil, err
	}
	return []engine.Bind{{Source: s.rootfsPath, Target: s.rootfsPath, ReadOnly: o.ReadOnly}}, nil
}

// parseBind reads SRC[:DST][:ro]. SRC is relative to the working directory.
func parseBind(wish string) (engine.Bind, error) {
	if strings.ContainsAny(wish, "\x00\n") {
		return engine.Bind{}, errors.New("a path cannot have NUL or newline in it")
	}
	parts := strings.Split(wish, ":")
	readOnly := false
	if last := parts[len(parts)-1]; len(parts) > 1 && (last == "ro" || last == "rw") {
		readOnly = last == "ro"
		parts = parts[:len(parts)-1]
	}
	if len(parts) > 2 || parts[0] == "" {
		return engine.Bind{}, errors.New("write SRC, SRC:DST or SRC:DST:ro")
	}
	source, err := filepath.Abs(parts[0])
	if err != nil {
		return engine.Bind{}, err
	}
	target := source
	if len(parts) == 2 {
		target = parts[1]
	}
	if !path.IsAbs(target) {
		return engine.Bind{}, fmt.Errorf("the destination %q must be an absolute path", target)
	}
	if target = path.Clean(target); target == "/" {
		return engine.Bind{}, errors.New("the destination cannot be the container's root directory")
	}
	if _, err := os.Stat(source); err != nil {
		return engine.Bind{}, fmt.Errorf("the source cannot be used: %w", err)
	}
	return engine.Bind{Source: source, Target: target, ReadOnly: readOnly}, nil
}

// tmpfs checks the places of temporary filesystems.
func tmpfs(wishes []string) ([]engine.Tmpfs, error) {
	var places []engine.Tmpfs
	for _, wish := range wishes {
		place := path.Clean(wish)
		if !path.IsAbs(wish) || place == "/" || slices.Contains(engineBinds, place) || strings.ContainsAny(wish, "\x00\n") {
			return nil, fmt.Errorf("--tmpfs %q: it must be an absolute path, and neither / nor one of %s", wish, strings.Join(engineBinds, ", "))
		}
		mode := uint32(0o755)
		if place == "/tmp" || place == "/var/tmp" {
			mode = 0o1777
		}
		places = append(places, engine.Tmpfs{Target: place, Mode: mode})
	}
	return places, nil
}

// overlap returns a destination that target hides, wholly or by covering its
// parent. A target below another one hides nothing of importance: that is how
// one binds a file over one of a directory.
func overlap(binds []engine.Bind, target string) string {
	for _, other := range engineBinds {
		if covers(target, other) {
			return other
		}
	}
	for _, b := range binds {
		if covers(target, b.Target) {
			return b.Target
		}
	}
	return ""
}

func (s *Session) sharedHome(user guest.User) (engine.Bind, error) {
	home := s.host.Home
	switch {
	case !filepath.IsAbs(home):
		return engine.Bind{}, errors.New("--shared-home: HOME is not set to an absolute path")
	case filepath.Clean(home) == "/":
		return engine.Bind{}, errors.New("--shared-home: the home directory is /, which would share the whole host")
	}
	if _, err := os.Stat(home); err != nil {
		return engine.Bind{}, fmt.Errorf("--shared-home: the home directory cannot be used: %w", err)
	}
	target := path.Clean(user.Home)
	if user.UID == 0 && !s.termux {
		target = "/root"
	}
	if target == "/" {
		return engine.Bind{}, fmt.Errorf("--shared-home: user %s has no home directory in the container", user.Name)
	}
	return engine.Bind{Source: filepath.Clean(home), Target: target}, nil
}

// bound returns the host path that the innermost bind gives to a guest path. The
// engine's own binds show the host's path of the same name.
func bound(binds []engine.Bind, guestPath string) (string, bool) {
	guestPath = path.Clean(guestPath)
	var best engine.Bind
	for _, dir := range engineBinds {
		if covers(dir, guestPath) {
			best = engine.Bind{Source: dir, Target: dir}
		}
	}
	for _, b := range binds {
		if covers(b.Target, guestPath) && len(b.Target) >= len(best.Target) {
			best = b
		}
	}
	if best.Target == "" {
		return "", false
	}
	return best.Source + strings.TrimPrefix(guestPath, best.Target), true
}

// covers reports whether name is dir or below it; both are clean.
func covers(dir, name string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}
