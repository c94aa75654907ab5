package dockerfile

import (
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"proot-distro/internal/platform"
)

// vars are variables in the order of their first setting. It is a [shell.EnvGetter].
type vars struct {
	keys    []string
	values  map[string]string
	longest int // of values, in bytes
}

func (v *vars) Get(key string) (string, bool) {
	value, ok := v.values[key]
	return value, ok
}

func (v *vars) Keys() []string { return v.keys }

func (v *vars) set(key, value string) {
	if v.values == nil {
		v.values = map[string]string{}
	}
	if _, known := v.values[key]; !known {
		v.keys = append(v.keys, key)
	}
	v.values[key] = value
	v.longest = max(v.longest, len(value))
}

func (v *vars) clone() *vars {
	c := &vars{}
	for _, key := range v.keys {
		c.set(key, v.values[key])
	}
	return c
}

// list gives KEY=VALUE entries.
func (v *vars) list() []string {
	entries := make([]string, len(v.keys))
	for i, key := range v.keys {
		entries[i] = key + "=" + v.values[key]
	}
	return entries
}

// proxyArgs reach every RUN without an ARG, and count for no cache key.
var proxyArgs = []string{"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"}

func isProxy(name string) bool { return slices.Contains(proxyArgs, strings.ToUpper(name)) }

// predefined reports whether --build-arg may set a name that no ARG declares.
func predefined(name string) bool {
	return isProxy(name) || name == "SOURCE_DATE_EPOCH" || strings.HasPrefix(name, "BUILDKIT_") ||
		slices.ContainsFunc(platformArgs(Options{}), func(kv [2]string) bool { return kv[0] == name })
}

// platformArgs are the ARGs that FROM knows without any declaration
// (https://docs.docker.com/reference/dockerfile/#automatic-platform-args-in-the-global-scope).
func platformArgs(o Options) [][2]string {
	stage := o.Stage
	if stage == "" {
		stage = "default"
	}
	var args [][2]string
	for _, side := range []struct {
		prefix string
		arch   platform.Arch
	}{{"BUILD", o.Build}, {"TARGET", o.Target}} {
		architecture, variant := side.arch.OCI()
		args = append(args,
			[2]string{side.prefix + "PLATFORM", side.arch.Docker()},
			[2]string{side.prefix + "OS", "linux"},
			[2]string{side.prefix + "OSVERSION", ""},
			[2]string{side.prefix + "ARCH", architecture},
			[2]string{side.prefix + "VARIANT", variant})
	}
	return append(args, [2]string{"TARGETSTAGE", stage})
}

// setGlobals evaluates what stands before the first FROM.
func (f *File) setGlobals(metaArgs []instructions.ArgCommand, stages []instructions.Stage, o Options) error {
	if o.Stage == "" {
		o.Stage = stages[len(stages)-1].Name
	}
	f.globals = &vars{}
	for _, kv := range platformArgs(o) {
		value, given := f.args[kv[0]]
		if !given {
			value = kv[1]
		}
		f.globals.set(kv[0], value)
	}
	f.lintDefaults(metaArgs, stages)
	for i := range metaArgs {
		if err := f.evaluate(f.globals, &metaArgs[i], f.args); err != nil {
			return err
		}
	}
	return nil
}

// evaluate sets the variables of an ARG before the first FROM. One without a value stays unset.
func (f *File) evaluate(env *vars, c *instructions.ArgCommand, given map[string]string) error {
	for _, arg := range c.Args {
		f.known[arg.Key] = true
		if value, ok := given[arg.Key]; ok {
			env.set(arg.Key, value)
			continue
		}
		if arg.Value == nil {
			continue
		}
		err := f.charge(*arg.Value, env)
		var value string
		if err == nil {
			value, _, err = f.lex.ProcessWord(*arg.Value, env)
		}
		if err != nil {
			return f.At(c.Location(), err)
		}
		env.set(arg.Key, value)
	}
	return nil
}

// Scope holds the variables that the instructions of one stage see.
type Scope struct {
	file *File
	env  *vars // of the image and of ENV and ARG, the later one wins
	args []string
	// Open scopes miss variables that nobody knows yet: those of an unknown base.
	Open bool
}

// NewScope gives the scope of a stage on top of an image with this environment.
func (f *File) NewScope(imageEnv []string) *Scope {
	s := &Scope{file: f, env: &vars{}}
	for _, entry := range imageEnv {
		key, value, _ := strings.Cut(entry, "=")
		s.env.set(key, value)
	}
	return s
}

// Child gives the scope of a stage on top of this one's stage: it inherits ENV and ARG.
func (s *Scope) Child() *Scope {
	return &Scope{file: s.file, env: s.env.clone(), args: slices.Clone(s.args), Open: s.Open}
}

// Environ is the environment of a RUN: ENV and ARG.
func (s *Scope) Environ() []string { return s.env.list() }

// Set makes a variable of ENV known.
func (s *Scope) Set(key, value string) { s.env.set(key, value) }

// Args lists the build arguments in scope as KEY=VALUE, in the order of their
// first declaration; for the image's history.
func (s *Scope) Args() []string {
	entries := make([]string, len(s.args))
	for i, key := range s.args {
		value, _ := s.env.Get(key)
		entries[i] = key + "=" + value
	}
	return entries
}

// Proxies are the predefined proxy variables among --build-arg, in both spellings, sorted:
// for the environment of a RUN, not for its cache key.
func (f *File) Proxies() []string {
	var entries []string
	for key, value := range f.args {
		if isProxy(key) {
			entries = append(entries, strings.ToUpper(key)+"="+value, strings.ToLower(key)+"="+value)
		}
	}
	slices.Sort(entries)
	return slices.Compact(entries)
}
