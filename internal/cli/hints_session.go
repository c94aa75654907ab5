package cli

import (
	"errors"
	"os"
	"path"
	"slices"
	"strings"

	"proot-distro/internal/engine"
	"proot-distro/internal/ui"
)

// identityPrograms change the user, or want another one than root.
var identityPrograms = []string{
	"su", "sudo", "runuser", "setpriv", "gosu", "su-exec", "initdb", "pg_ctl", "pg_createcluster", "postgres",
}

// hintIdentity explains why a command may have failed that needs several user IDs: in a
// session of the native engine, an ordinary user's container has one.
func (a *App) hintIdentity(err error, engineName string, spec engine.Spec) {
	var status guestStatus
	if !errors.As(err, &status) || engineName != engineNative || spec.AllIDs || os.Geteuid() == 0 || spec.User.UID != 0 {
		return
	}
	if program := identityProgram(spec.Argv); program != "" {
		a.UI.Warnf("container '%s' has root as its only user, so %s may not work as elsewhere: '%s login --user USER' starts as "+
			"somebody else, and '%[3]s login --userns full %[4]s' gives it more", spec.Container, program, a.Program, ui.ShellQuote(spec.Container))
	}
}

// identityProgram finds the first of them in a command, lines of shell included.
func identityProgram(command []string) string {
	for _, word := range strings.FieldsFunc(strings.Join(command, " "), func(r rune) bool { return strings.ContainsRune(" \t\n;&|()'\"`", r) }) {
		if program := path.Base(word); slices.Contains(identityPrograms, program) {
			return program
		}
	}
	return ""
}
