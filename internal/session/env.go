package session

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"proot-distro/internal/guest"
)

// defaultPath is Docker's default with Debian's games at the end.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/games:/usr/local/games"

// androidVariables belong to the host's Android; no image may set them.
var androidVariables = []string{
	"ANDROID_ART_ROOT", "ANDROID_DATA", "ANDROID_I18N_ROOT", "ANDROID_ROOT", "ANDROID_RUNTIME_ROOT",
	"ANDROID_TZDATA_ROOT", "BOOTCLASSPATH", "DEX2OATBOOTCLASSPATH", "EXTERNAL_STORAGE",
}

// sessionVariables are this login's own: they come last and are kept out of the
// profile snippet.
var sessionVariables = []string{"HOME", "USER", "TERM", "COLORTERM"}

// environment builds the guest's environment, nothing of it from the host but the
// terminal's two variables, Android's on Termux, and what --env asks for by name. Later
// entries win: defaults, the image, the host, the person, the session.
func (s *Session) environment(o Options, user guest.User) ([]string, error) {
	var env environ
	if o.Mode != Minimal {
		s.addDefaults(&env)
		s.addImage(&env)
	}
	if s.host.Termux && o.Mode == Default {
		for _, key := range androidVariables {
			if value := s.host.Getenv(key); value != "" {
				env.set(key, value)
			}
		}
	}
	if o.SharedX11 && !s.termux {
		env.set("DISPLAY", cmp.Or(s.host.Getenv("DISPLAY"), ":0"))
		env.set("PULSE_SERVER", pulseServer)
	}
	own := sessionVariables
	if o.Mode == Minimal || s.termux {
		own = sessionVariables[2:]
	}
	if err := s.addWishes(&env, o.Env, own); err != nil {
		return nil, err
	}
	if len(own) == len(sessionVariables) {
		env.set("HOME", user.Home)
		env.set("USER", user.Name)
	}
	env.set("TERM", cmp.Or(s.host.Getenv("TERM"), "xterm-256color"))
	if color := s.host.Getenv("COLORTERM"); color != "" {
		env.set("COLORTERM", color)
	}
	if s.host.Termux && o.Mode == Default && !s.termux {
		env.set("PATH", pathWith(variable(env.entries, "PATH"), s.host.Prefix+"/bin"))
	}
	return env.entries, nil
}

// pulseServer is where Termux's sound server listens.
const pulseServer = "127.0.0.1"

// addDefaults sets what the image and --env may change.
func (s *Session) addDefaults(env *environ) {
	if s.termux {
		for _, v := range [][2]string{
			{"HOME", guestHome}, {"PATH", guestPrefix + "/bin"}, {"PREFIX", guestPrefix}, {"TMPDIR", guestPrefix + "/tmp"},
		} {
			env.set(v[0], v[1])
		}
		return
	}
	env.set("PATH", defaultPath)
	env.set("MOZ_FAKE_NO_SANDBOX", "1")
	if s.host.Termux {
		env.set("PULSE_SERVER", pulseServer)
	}
}

func (s *Session) addImage(env *environ) {
	if s.image == nil {
		return
	}
	for _, entry := range s.image.Config.Env {
		if key, value, ok := strings.Cut(entry, "="); ok && allowedFromImage(key) && !strings.Contains(value, "\x00") {
			env.set(key, value)
		}
	}
}

// pathWith puts dir at the end of a search path, and there only.
func pathWith(searchPath, dir string) string {
	dirs := slices.DeleteFunc(strings.Split(searchPath, ":"), func(d string) bool { return d == dir })
	return strings.Join(append(dirs, dir), ":")
}

// addWishes applies --env; own are the variables that it cannot change.
func (s *Session) addWishes(env *environ, wishes, own []string) error {
	for _, wish := range wishes {
		key, value, given := strings.Cut(wish, "=")
		switch {
		case key == "" || strings.Contains(wish, "\x00"):
			return fmt.Errorf("--env %q: write VAR=VALUE, or VAR to pass on the host's value", wish)
		case strings.HasPrefix(key, "PROOT_"):
			return fmt.Errorf("--env %s: PROOT_* variables steer proot itself; write %[1]s=… in front of this command instead", key)
		case slices.Contains(own, key):
			s.rep.Warnf("--env %s has no effect: the session sets it itself; use -- env %[1]s=… COMMAND", key)
			continue
		case !given:
			// As with docker -e VAR: what the host lacks is not set.
			if value = s.host.Getenv(key); value == "" {
				continue
			}
		}
		env.set(key, value)
	}
	return nil
}

// allowedFromImage filters an image's Env. The loader's variables and PROOT_*
// would act on the engine, which runs outside of the container.
func allowedFromImage(key string) bool {
	switch {
	case key == "", strings.Contains(key, "\x00"), isLoader(key), strings.HasPrefix(key, "PROOT_"):
		return false
	case key == "MOZ_FAKE_NO_SANDBOX", key == "PULSE_SERVER":
		return false
	}
	return !slices.Contains(sessionVariables, key) && !slices.Contains(androidVariables, key)
}

// isLoader reports whether a variable, or a KEY=VALUE entry, speaks to the
// dynamic loader (ld.so(8)).
func isLoader(entry string) bool { return strings.HasPrefix(entry, "LD_") }

// environ is a list of KEY=VALUE without duplicates, in the order of first setting.
// It must stay fast for the millions of entries that a hostile image can have.
type environ struct {
	entries []string
	index   map[string]int
}

func (e *environ) add(entry string) {
	key, value, _ := strings.Cut(entry, "=")
	e.set(key, value)
}

func (e *environ) set(key, value string) {
	if e.index == nil {
		e.index = map[string]int{}
	}
	entry := key + "=" + value
	if i, ok := e.index[key]; ok {
		e.entries[i] = entry
		return
	}
	e.index[key] = len(e.entries)
	e.entries = append(e.entries, entry)
}

// variable returns the value of key in a list of KEY=VALUE.
func variable(env []string, key string) string {
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, key+"="); ok {
			return value
		}
	}
	return ""
}
