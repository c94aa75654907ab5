package proot

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestExamine(t *testing.T) {
	real, err := find(hostAt("", os.Getenv))
	must(t, err)
	dir := t.TempDir()
	script := func(name, text string) string {
		file := filepath.Join(dir, name)
		must(t, os.WriteFile(file, []byte("#!/bin/sh\n"+text+"\n"), 0o755))
		return file
	}
	onlyHelp := `case $1 in --help|--version) exec ` + real + ` $1;; esac; `
	for name, tc := range map[string]struct {
		bin, version string
		err          []string // parts; nil for none
	}{
		"Debian's":      {real, "5.1.0", nil},
		"runs nothing":  {script("idle", onlyHelp+"exit 0"), "5.1.0", []string{"no program runs", "without having run"}},
		"must not":      {script("forbidden", onlyHelp+"echo 'proot error: ptrace(TRACEME): no' >&2; exit 1"), "5.1.0", []string{"ptrace(TRACEME): no"}},
		"killed":        {script("killed", onlyHelp+"kill -9 $$"), "5.1.0", []string{"killed"}},
		"other program": {script("other", "echo hello"), "", []string{"does not look like proot"}},
	} {
		a, err := Examine(hostAt(dir, getenvOf(map[string]string{"PD_PROOT_BIN": tc.bin})))
		if a.Version != tc.version || a.Path != tc.bin {
			t.Errorf("%s: %+v", name, a)
		}
		if tc.err == nil {
			if err != nil || a.Hostname || a.HardLinks || !a.LeaksRefused || len(a.Leaks) == 0 {
				t.Errorf("%s: %+v, %v", name, a, err)
			}
			continue
		}
		if wantContains(t, err, tc.err...); !errors.Is(err, ErrUnusable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Examine(hostAt(dir, getenvOf(map[string]string{"PATH": dir}))); !errors.As(err, new(*NotFoundError)) {
		t.Errorf("none: %v", err)
	}
}
