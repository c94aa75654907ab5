package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proot-distro/internal/cli"
)

// The README in the repository is up to date; `make docs` makes it so.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	want, err := withOptionTables(cli.Table(), readme)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(readme)); diff != "" {
		t.Errorf("run make docs:\n%s", diff)
	}
}

func TestOptionTables(t *testing.T) {
	const old = "before\n<!-- options:rename -->\nold\n<!-- /options -->\nafter\n"
	got, err := withOptionTables(cli.Table(), []byte(old))
	if err != nil {
		t.Fatal(err)
	}
	want := "before\n<!-- options:rename -->\n\n| Option | Effect |\n|---|---|\n" +
		"| `-q, --quiet` | Print errors and warnings only. |\n" +
		"| `-h, --help` | Print this help. |\n\n<!-- /options -->\nafter\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	if again, err := withOptionTables(cli.Table(), got); err != nil || !bytes.Equal(again, got) {
		t.Errorf("not stable: %v\n%s", err, again)
	}
	if _, err := withOptionTables(cli.Table(), []byte("<!-- options:nope -->\n<!-- /options -->")); err == nil {
		t.Error("an unknown command is accepted")
	}
}

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"--name": `\-\-name`, ".profile": `\&.profile`, `a\b`: `a\eb`, "'x'": `\(aqx\(aq`, "~/x": `\(ti/x`,
	} {
		if got := escape(in); got != want {
			t.Errorf("escape(%q) = %s, want %s", in, got, want)
		}
	}
}

// man has nothing to say against any page, and shows what it should.
func TestManPages(t *testing.T) {
	prefix := t.TempDir()
	if err := writeAll(prefix); err != nil {
		t.Fatal(err)
	}
	manuals := filepath.Join(prefix, "share/man")
	names := []string{"proot-distro", "pd"}
	for _, cmd := range commandsOf(cli.Table()) {
		names = append(names, "proot-distro-"+cmd.Name())
	}
	for _, name := range names {
		cmd := exec.Command("man", "-M", manuals, "--warnings", "-E", "UTF-8", "-P", "cat", name)
		cmd.Env = append(os.Environ(), "MANWIDTH=80", "LC_ALL=C.UTF-8", "MAN_KEEP_FORMATTING=")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil || stderr.Len() > 0 {
			t.Errorf("man %s: %v\n%s", name, err, stderr.String())
		}
		for _, section := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "SEE ALSO"} {
			if !regexp.MustCompile(`(?m)^` + section + `$`).Match(out) {
				t.Errorf("man %s has no section %s:\n%s", name, section, out)
			}
		}
	}
	main, err := os.ReadFile(filepath.Join(manuals, "man1/proot-distro.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range cli.ExitCodes() {
		if !strings.Contains(string(main), escape(row[0])+`\fP`+"\n"+escape(row[1])) {
			t.Errorf("exit code %s is not in the manual", row[0])
		}
	}
}

func TestCompletionFiles(t *testing.T) {
	prefix := t.TempDir()
	if err := writeAll(prefix); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"share/bash-completion/completions/proot-distro": "-F __start_proot-distro pd\n",
		"share/bash-completion/completions/pd":           "-F __start_proot-distro proot-distro\n",
		"share/zsh/site-functions/_proot-distro":         "#compdef proot-distro pd\n",
		"share/fish/vendor_completions.d/pd.fish":        "complete -c pd -w proot-distro\n",
	} {
		text, err := os.ReadFile(filepath.Join(prefix, path))
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s lacks %q (%v)", path, want, err)
		}
	}
}
