package cli

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
)

// TestMain lets links to the test binary stand in for the program, so that
// real shells can ask it for completions.
func TestMain(m *testing.M) {
	if name := filepath.Base(os.Args[0]); name == "pd" || name == "proot-distro" {
		os.Exit(Main(os.Args, os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// completions are what a shell offers for the last word of a command line: of the
// program's answers those that continue it.
func completions(t *testing.T, args ...string) []string {
	t.Helper()
	r := pd(t, append([]string{"__complete"}, args...)...)
	var words []string
	for _, l := range strings.Split(strings.TrimSpace(r.out), "\n") {
		if word, _, _ := strings.Cut(l, "\t"); !strings.HasPrefix(word, ":") && strings.HasPrefix(word, args[len(args)-1]) {
			words = append(words, word)
		}
	}
	return words
}

func prepareCompletions(t *testing.T) {
	t.Helper()
	containers := home(t)
	for _, name := range []string{"debian", "debian-test", "alpine"} {
		makeContainer(t, containers, name, "")
	}
	cacheImage(t, "debian:12", platform.X86_64)
	// What a guest on Termux could write.
	ref, err := oci.ParseRef("alpine")
	if err == nil {
		err = image.OpenCache(dirs(t)).Store(ref, imageRecord("$(reboot):x", platform.X86_64))
	}
	if err != nil {
		t.Fatal(err)
	}
	register(t, "debian", "proot")
}

func TestCompletions(t *testing.T) {
	prepareCompletions(t)
	for line, want := range map[string]string{
		"rem":                "remove",
		"remove ":            "alpine debian debian-test",
		"rm -v deb":          "debian debian-test",
		"remove debian ":     "alpine debian-test",
		"remove -i ":         "debian:12",
		"remove -i -a ar":    "arm",
		"remove --image -a ": "aarch64 arm i686 riscv64 x86_64",
		"remove --im":        "--image",
		"kill -s TE":         "TERM",
		"kill deb":           "debian",
		"help ki":            "kill",
		"completion ":        "bash zsh fish",
	} {
		words := strings.Fields(line)
		if strings.HasSuffix(line, " ") {
			words = append(words, "")
		}
		if got := strings.Join(completions(t, words...), " "); got != want {
			t.Errorf("%q: %s, want %s", line, got, want)
		}
	}
	if got := completions(t, "remove", "-v", "--"); slices.Contains(got, "--quiet") {
		t.Errorf("an excluded option is offered: %q", got)
	}
}

// A failure behind a completion says nothing and offers nothing.
func TestCompletionWithoutHome(t *testing.T) {
	home(t)
	t.Setenv("HOME", "")
	if got := completions(t, "remove", ""); len(got) != 0 {
		t.Error(got)
	}
}

// shell runs a script in a real shell, with pd and proot-distro in PATH and
// the shell's completion script in the file $script.
func shell(t *testing.T, name, script string, options ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is needed to test its completions: %v", name, err)
	}
	prepareCompletions(t)
	bin := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"pd", "proot-distro"} {
		if err := os.Symlink(self, filepath.Join(bin, link)); err != nil {
			t.Fatal(err)
		}
	}
	var text bytes.Buffer
	if err := WriteCompletion(&text, Table(), name); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(bin, "_proot-distro")
	if err := os.WriteFile(file, text.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, append(options, "-c", script)...)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "script="+file, "dir="+bin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Errorf("%s: %v\n%s", name, err, stderr.String())
	}
	return string(out)
}

func TestBashCompletion(t *testing.T) {
	out := shell(t, "bash", `source "$script"
try() {
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMPREPLY=()
    COMP_POINT=${#COMP_LINE}
    "$(complete -p "$1" | sed 's/.*-F \([^ ]*\).*/\1/')" "$@" 2>/dev/null
    echo "$* => ${COMPREPLY[*]}"
}
try pd remove alp
try proot-distro remove alp
try pd lis
`)
	const want = "pd remove alp => alpine\nproot-distro remove alp => alpine\npd lis => list\n"
	if out != want && out != strings.ReplaceAll(want, "\n", " \n") {
		t.Errorf("%q", out)
	}
}

func TestFishCompletion(t *testing.T) {
	out := shell(t, "fish", `source $script; complete -C "pd remove deb"; complete -C "proot-distro kill --sig"; complete -C "pd sea"`, "--no-config")
	for _, want := range []string{"debian\n", "debian-test\n", "--signal\t", "search\tFind images on Docker Hub\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("fish offers %q, without %q", out, want)
		}
	}
}

// zsh completes interactively only; here it must understand the file and
// register it for both names.
func TestZshCompletion(t *testing.T) {
	out := shell(t, "zsh", `zsh -n "$script"
fpath=($dir $fpath)
autoload -Uz compinit
compinit -u -d "$dir/dump"
print $_comps[pd] $_comps[proot-distro]`, "-f")
	if out != "_proot-distro _proot-distro\n" {
		t.Errorf("registered: %q", out)
	}
}
