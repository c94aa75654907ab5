package proot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"proot-distro/internal/engine"
)

// verbose makes proot talk.
const verbose = "PROOT_VERBOSE"

// passed are the variables of this program's own environment that reach proot.
var passed = []string{
	"PROOT_NO_SECCOMP", verbose, "PROOT_TMP_DIR", "PROOT_LOADER", "PROOT_LOADER_32",
	"PROOT_DONT_POLLUTE_ROOTFS", "PROOT_FORCE_KOMPAT",
}

// linkOption is known to Termux's fork only.
const linkOption = "--link2symlink"

// settings are proot's own variables: what this program was given, and what s needs.
func (e *Engine) settings(s engine.Spec) []string {
	var env []string
	for _, name := range passed {
		if value := e.getenv(name); value != "" && !(s.Silent && name == verbose) {
			env = append(env, name+"="+value)
		}
	}
	if s.Features.HardLinks && e.probe.has(linkOption) {
		// Where it is not told, each proot decides for itself by what it finds.
		env = append(env, "PROOT_L2S_DIR="+s.Features.LinkDir)
	}
	return env
}

// options assembles proot's options for a Spec.
func (e *Engine) options(s engine.Spec) ([]string, error) {
	if err := e.checkEnv(s.Env); err != nil {
		return nil, err
	}
	uname, err := e.uname(s)
	if err != nil {
		return nil, err
	}
	options := append(e.extensions(s.Features), uname...)
	if !s.User.Real {
		options = append(options, fmt.Sprintf("--change-id=%d:%d", s.User.UID, s.User.GID))
	}
	options = append(options,
		"--rootfs="+s.Rootfs,
		"--cwd="+s.WorkDir,
		"--bind=/dev", "--bind=/proc", "--bind=/sys",
	)
	for _, b := range s.Binds {
		value, err := e.bind(b)
		if err != nil {
			return nil, err
		}
		options = append(options, "--bind="+value)
	}
	if s.Emulator != "" {
		if strings.Contains(s.Emulator, " ") {
			return nil, e.unsupported("an emulator with a space in its path ("+s.Emulator+")", "move it or link to it from elsewhere")
		}
		options = append(options, "--qemu="+s.Emulator)
	}
	if err := e.checkIsolation(s); err != nil {
		return nil, err
	}
	if s.RedirectPorts {
		if !e.probe.has("-p") {
			return nil, e.unsupported("--redirect-ports", "let the service listen on a port above 1023")
		}
		options = append(options, "-p")
	}
	return append(options, e.verbosity(s)), nil
}

// extensions are the options for those features that this proot has.
func (e *Engine) extensions(f engine.Features) []string {
	var options []string
	for _, o := range []struct {
		wanted bool
		name   string
	}{
		{f.KillOnExit, "--kill-on-exit"}, {f.HardLinks, linkOption}, {f.SysVIPC, "--sysvipc"}, {f.LinkSizes, "-L"},
	} {
		if o.wanted && e.probe.has(o.name) {
			options = append(options, o.name)
		}
	}
	if f.HardLinks && !e.probe.has(linkOption) {
		e.report.Warnf("proot %s does not emulate hard links, which Android forbids, so package managers will fail: "+
			"install Termux's own (pkg install proot) and do not set PD_PROOT_BIN", e.probe.Version)
	}
	return options
}

// verbosity silences what proot says about every process that a signal kills.
// Its warnings are lost with it, which are about things that were checked before;
// errors remain.
func (e *Engine) verbosity(s engine.Spec) string {
	if level := e.getenv(verbose); level != "" && !s.Silent {
		return "--verbose=" + level
	}
	return "--verbose=-1"
}

// checkIsolation refuses what only the kernel can do.
func (e *Engine) checkIsolation(s engine.Spec) error {
	fix := "take the native engine with --engine native"
	if e.android {
		fix = "leave it away; it takes namespaces, which Android does not let apps make"
	}
	switch {
	case s.AllIDs:
		return e.unsupported("a container with --userns full, whose files have owners that it could not act for", fix)
	case s.NoNetwork:
		return e.unsupported("--network none", fix)
	case s.ReadOnly:
		return e.unsupported("--read-only", fix)
	case len(s.Tmpfs) > 0:
		return e.unsupported("--tmpfs", fix)
	}
	return nil
}

// bind spells a bind as proot reads it, which has no quoting.
func (e *Engine) bind(b engine.Bind) (string, error) {
	name := "the bind of " + b.Source + " at " + b.Target
	switch {
	case b.ReadOnly:
		return "", e.unsupported(name+" read-only", "leave :ro away, or make the source read-only on the host")
	case strings.Contains(b.Source+b.Target, ":"):
		return "", e.unsupported(name, "it has a colon in its path; rename it, or bind a directory above it")
	case strings.HasSuffix(b.Target, "!"):
		return "", e.unsupported(name, "its path ends in an exclamation mark; bind it under another name")
	case b.Pending:
		return b.Source + ":" + b.Target, nil
	}
	switch _, err := os.Stat(b.Source); {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("cannot bind %s: it does not exist on the host", b.Source)
	case err != nil:
		return "", fmt.Errorf("cannot bind %s: %w", b.Source, errors.Unwrap(err))
	}
	return b.Source + ":" + b.Target, nil
}

// checkEnv refuses variables that the dynamic linker or proot would obey outside
// of the container.
func (e *Engine) checkEnv(env []string) error {
	for _, kv := range env {
		key, _, ok := strings.Cut(kv, "=")
		if !ok || key == "" {
			return fmt.Errorf("environment entry %q is not of the form KEY=VALUE", kv)
		}
		if strings.HasPrefix(key, "LD_") || strings.HasPrefix(key, "PROOT_") {
			return e.unsupported("the environment variable "+key,
				"it would act on proot itself; set it inside, as in -- env "+kv+" COMMAND")
		}
	}
	return nil
}

func (e *Engine) unsupported(option, fix string) error {
	return &engine.Unsupported{Engine: "proot " + e.probe.Version, Option: option, Fix: fix}
}

// CommandLine is the command as a person could type it into a POSIX shell: the
// whole environment, proot, its options and the guest's command, one per line.
// What this program does beyond that (refusing system calls, supervising) is not
// part of it.
func (p *Process) CommandLine() string {
	words := []string{"env -i"}
	for _, kv := range p.env {
		words = append(words, quote(kv))
	}
	words = append(words, quote(p.bin))
	for _, o := range p.options {
		words = append(words, quote(o))
	}
	for _, w := range p.command {
		words = append(words, quote(w))
	}
	return strings.Join(words, " \\\n  ")
}

// quote escapes a word for a POSIX shell.
func quote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-+=:,./@%", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
