package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// home gives the test a home directory of its own and returns the directory of
// containers in it.
func home(t *testing.T) (containers string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	for _, name := range []string{"XDG_DATA_HOME", "XDG_CACHE_HOME", "COLUMNS", "TERMUX_VERSION", "TERMUX_APP__APP_VERSION_NAME"} {
		t.Setenv(name, "")
	}
	return filepath.Join(dir, ".local/share/proot-distro/containers")
}

type result struct {
	code     int
	out, err string
}

// pd runs the command line in this process.
func pd(t *testing.T, args ...string) result {
	t.Helper()
	return runAs(t, "pd", args...)
}

func runAs(t *testing.T, program string, args ...string) result {
	t.Helper()
	files := make([]*os.File, 2)
	for i := range files {
		f, err := os.CreateTemp(t.TempDir(), "stream")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	stdin, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	code := Main(append([]string{"/usr/bin/" + program}, args...), stdin, files[0], files[1])
	var texts [2]string
	for i, f := range files {
		data, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(data)
	}
	return result{code, texts[0], withoutRootWarning(texts[1])}
}

// withoutRootWarning makes tests the same for root and for others.
func withoutRootWarning(text string) string {
	first, rest, _ := strings.Cut(text, "\n")
	if strings.HasPrefix(first, "[!] Warning: running as root") {
		return rest
	}
	return text
}

// want checks one run: the exit code, and what the streams must contain.
func (r result) want(t *testing.T, code int, out, err string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d", r.code, code)
	}
	if !strings.Contains(r.out, out) || out == "" && r.out != "" {
		t.Errorf("standard output:\n%s\nwant:\n%s", r.out, out)
	}
	if !strings.Contains(r.err, err) || err == "" && r.err != "" {
		t.Errorf("standard error:\n%s\nwant:\n%s", r.err, err)
	}
}

func TestMistakes(t *testing.T) {
	home(t)
	for _, c := range []struct {
		args string
		code int
		err  string
	}{
		{"lst", 2, "Error: unknown command lst\nDid you mean 'pd list'?\nRun 'pd help' for the list of commands.\n"},
		{"remvoe x", 2, "Did you mean 'pd remove'?"},
		{"uninstall x", 2, "Did you mean 'pd remove'?"},
		{"lst --help", 2, "unknown command lst"},
		{"xyzzy", 2, "Error: unknown command xyzzy\nRun 'pd help'"},
		{"xyz;zy", 2, "unknown command 'xyz;zy'"},
		{"\x1b[31m", 2, `unknown command $'\x1b[31m'`},
		{"help nope", 2, "unknown command nope"},
		{"list --imgae", 2, "Error: pd list has no option --imgae\nDid you mean '--image'?\nUsage: pd list [OPTIONS]\n"},
		{"list -z", 2, "pd list has no option -z\n"},
		{"list extra", 2, "unexpected argument extra"},
		{"list --image=maybe", 2, "option --image takes no value"},
		{"remove", 2, "Error: pd remove needs a CONTAINER\nUsage: pd remove [OPTIONS] CONTAINER...\nRun 'pd help remove' for its options and examples.\n"},
		{"remove -v -q x", 2, "options --verbose and --quiet exclude each other"},
		{"remove --architecture", 2, "option --architecture needs a value: ARCH"},
		{"remove -i x -a z80", 2, "bad value z80 for option --architecture: unknown architecture"},
		{"remove -a arm x", 2, "option --architecture goes with --image only"},
		{"kill", 2, "pd kill needs a PID, a CONTAINER or --all"},
		{"kill --all x", 2, "option --all leaves nothing to name"},
		{"kill -s NOPE x", 2, "bad value NOPE for option --signal: no such signal"},
		{"completion", 2, "pd completion needs a SHELL"},
		{"completion tcsh", 2, "choose bash, zsh or fish"},
		{"remove nope", 3, "Error: there is no container \"nope\"\nNone is installed yet; try: pd install nope\n"},
		{"remove --image nope", 3, "image 'nope:latest' is not in the cache\n'pd list --image' shows what there is.\n"},
		{"kill nope", 3, "no session nope is running\n'pd ps' shows"},
		{"remove ../x", 2, "is not a container name"},
	} {
		t.Run(c.args, func(t *testing.T) {
			pd(t, strings.Fields(c.args)...).want(t, c.code, "", c.err)
		})
	}
}

func TestEveryFailureIsReported(t *testing.T) {
	home(t)
	pd(t, "remove", "one", "two").want(t, 3, "", "Error: there is no container \"one\"\nNone is installed yet; try: pd install one\n"+
		"Error: there is no container \"two\"\n")
}

func TestVersion(t *testing.T) {
	home(t)
	pd(t, "--version").want(t, 0, "proot-distro ", "")
}

func TestUnusableHome(t *testing.T) {
	home(t)
	t.Setenv("HOME", "")
	pd(t, "list").want(t, 1, "", "HOME is not set")
	pd(t, "help").want(t, 0, "Usage: pd COMMAND", "")
}

func TestLostOutput(t *testing.T) {
	home(t)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	stderr, err := os.CreateTemp(t.TempDir(), "stderr")
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	if code := Main([]string{"pd", "help"}, nil, full, stderr); code != 1 {
		t.Errorf("exit code %d", code)
	}
}

// Every command works under each of its names, explains itself whatever else is
// on the line, and is described completely.
func TestEveryCommand(t *testing.T) {
	home(t)
	root := Table()
	if len(root.Commands()) != len(table) {
		t.Errorf("%d commands, %d in the table", len(root.Commands()), len(table))
	}
	for _, r := range table {
		if name := r.build(&App{}).Name(); name != strings.Fields(r.names)[0] {
			t.Errorf("%s is called %s in the table", name, r.names)
		}
	}
	names := map[string]bool{}
	for _, cmd := range root.Commands() {
		for _, name := range append([]string{cmd.Name()}, cmd.Aliases...) {
			if names[name] {
				t.Errorf("two commands are called %s", name)
			}
			names[name] = true
			want := "Usage: pd " + cmd.Name()
			for _, args := range [][]string{{name, "-h"}, {name, "--usage"}, {name, "x", "--help"}, {name, "--bogus", "--help"}, {"help", name}} {
				if r := pd(t, args...); r.code != 0 || r.err != "" || !strings.HasPrefix(r.out, want) {
					t.Errorf("%v: %d\n%s%s", args, r.code, r.out, r.err)
				}
			}
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") || cmd.Long == "" || cmd.Example == "" {
			t.Errorf("%s lacks a description, or its short one is a sentence", cmd.Name())
		}
		for _, o := range Options(cmd) {
			if o.Text == "" {
				t.Errorf("%s: option %s is not described", cmd.Name(), o.Syntax)
			}
		}
	}
}

func TestAfterDashesIsNoHelp(t *testing.T) {
	home(t)
	pd(t, "remove", "--", "--help").want(t, 2, "", "is not a container name")
}
