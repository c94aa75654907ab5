package session

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"proot-distro/internal/rootfs"
)

// The snippet has the Python program's name, since both may enter a container;
// legacyProfile is what its older versions left behind.
const (
	profileDir    = "/etc/profile.d"
	profileName   = profileDir + "/termux-profile.sh"
	legacyProfile = profileDir + "/termux-prefix.sh"
)

const maxProfile = 1 << 20 // bytes of an old snippet worth comparing

// writeProfile keeps the environment alive through /etc/profile, which on most
// distributions resets PATH in every login shell. Containers without
// /etc/profile.d are left alone, and so is a snippet that is right already.
func writeProfile(root *rootfs.FS, env []string) error {
	dir, err := root.Stat(profileDir)
	if err != nil || !dir.Mode.IsDir() {
		return nil
	}
	if err := root.Remove(legacyProfile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", legacyProfile, err)
	}
	snippet := profile(env)
	if old, err := root.ReadFile(profileName, maxProfile); err == nil && string(old) == snippet {
		return nil
	}
	if err := root.WriteFile(profileName, []byte(snippet), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", profileName, err)
	}
	return nil
}

// shellVariables are set by shells themselves: some are read-only there, zsh
// changes its identity by UID.
var shellVariables = []string{
	"BASHOPTS", "BASH_VERSINFO", "EGID", "EUID", "GID", "OLDPWD", "PPID", "PWD", "SHELLOPTS", "SHLVL", "UID", "USERNAME",
}

// profile is a snippet of POSIX shell that sets what env sets, but for the
// variables of one session. Names that are no identifiers are left out.
func profile(env []string) string {
	var b strings.Builder
	b.WriteString("# Written by proot-distro at every login; changes are lost.\n")
	for _, entry := range env {
		key, value, _ := strings.Cut(entry, "=")
		switch {
		case key == "PATH":
			b.WriteString(pathSnippet(value))
		case !isIdentifier(key), slices.Contains(sessionVariables, key), slices.Contains(shellVariables, key),
			strings.HasPrefix(key, "PROOT_"), isLoader(key):
		default:
			fmt.Fprintf(&b, "export %s=%s\n", key, quoteHard(value))
		}
	}
	return b.String()
}

// pathSnippet adds the missing directories of searchPath to PATH: those that come
// before any default directory in front, the others behind, so that an image's
// own programs keep their precedence and what other snippets add stays.
func pathSnippet(searchPath string) string {
	var front, behind []string
	defaults := strings.Split(defaultPath, ":")
	inFront := true
	for dir := range strings.SplitSeq(searchPath, ":") {
		if !strings.HasPrefix(dir, "/") {
			continue
		}
		inFront = inFront && !slices.Contains(defaults, dir)
		if inFront {
			front = append(front, dir)
		} else {
			behind = append(behind, dir)
		}
	}
	slices.Reverse(front)
	var b strings.Builder
	for _, dir := range front {
		fmt.Fprintf(&b, "case \":$PATH:\" in *:%s:*) ;; *) PATH=%[1]s:\"$PATH\" ;; esac\n", quoteHard(dir))
	}
	for _, dir := range behind {
		fmt.Fprintf(&b, "case \":$PATH:\" in *:%s:*) ;; *) PATH=\"$PATH\":%[1]s ;; esac\n", quoteHard(dir))
	}
	b.WriteString("export PATH\n")
	return b.String()
}
