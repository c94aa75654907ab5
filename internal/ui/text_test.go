package ui

import (
	"os/exec"
	"strings"
	"testing"
	"time"
	"unicode"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"":                  "",
		"plain text, ok":    "plain text, ok",
		"größe 日本 🙂":        "größe 日本 🙂",
		"a\x1b[31mred":      `a\x1b[31mred`,
		"a\nb\tc\rd":        `a\nb\tc\rd`,
		"\x9b31m\xff":       `\x9b31m\xff`,
		"\u009b31m":         `\u009b31m`,
		"evil\u202eexe.txt": `evil\u202eexe.txt`,
		"zero\u200bwidth":   `zero\u200bwidth`,
		"\x00\x07\x7f":      `\x00\x07\x7f`,
		"\U000e0041":        `\U000e0041`,
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %s, want %s", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("a\x1b]0;title\x07b\u202e\xff")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range Clean(s) {
			if !unicode.IsPrint(r) {
				t.Fatalf("Clean(%q) holds %q", s, r)
			}
		}
	})
}

// What ShellQuote writes is read back by a real shell.
func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{
		"debian":        "debian",
		"ghcr.io/a/b:1": "ghcr.io/a/b:1",
		"":              "''",
		"a b":           "'a b'",
		"it's":          `'it'\''s'`,
		"~root":         "'~root'",
		"=ls":           "'=ls'",
		"$(reboot);`x`": "'$(reboot);`x`'",
		"a\nb'\\\x1b":   `$'a\nb\'\\\x1b'`,
		"日本":            "'日本'",
	} {
		got := ShellQuote(in)
		if got != want {
			t.Errorf("ShellQuote(%q) = %s, want %s", in, got, want)
		}
		out, err := exec.Command("bash", "-c", "printf %s "+got).Output()
		if err != nil || string(out) != in {
			t.Errorf("bash reads %s as %q, want %q (%v)", got, out, in, err)
		}
	}
	if got := ShellJoin("ls", "-l", "a b"); got != "ls -l 'a b'" {
		t.Error(got)
	}
}

func TestSizeAndDuration(t *testing.T) {
	for in, want := range map[int64]string{
		-1: "0 B", 0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB",
		180 << 20: "180 MiB", 1023 << 20: "1.0 GiB", 5 << 40: "5.0 TiB", 1<<63 - 1: "8.0 EiB",
	} {
		if got := Size(in); got != want {
			t.Errorf("Size(%d) = %s, want %s", in, got, want)
		}
	}
	for in, want := range map[time.Duration]string{
		-time.Second: "0 s", 59 * time.Second: "59 s", time.Minute: "1 min", 90 * time.Minute: "1 h", 72 * time.Hour: "3 days",
	} {
		if got := Duration(in); got != want {
			t.Errorf("Duration(%v) = %s, want %s", in, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		in    string
		width int
		want  string
	}{
		{"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"abcd", 1, "…"}, {"abcd", 0, ""}, {"日本語", 4, "日…"}, {"日本語", 6, "日本語"},
		{"e\u0301a", 2, "e\u0301a"},
	} {
		if got := Cut(c.in, c.width); got != c.want || Columns(got) > c.width {
			t.Errorf("Cut(%q, %d) = %q, want %q", c.in, c.width, got, c.want)
		}
	}
	if got := Pad("日", 4); got != "日  " {
		t.Errorf("%q", got)
	}
}

func TestTableFits(t *testing.T) {
	table := func() Table {
		return Table{
			Header:   []string{"NAME", "IMAGE", "ARCHITECTURE"},
			Flexible: []int{1, 0},
			Rows: [][]string{
				{"debian", "debian:bookworm", "x86_64"},
				{"a-rather-long-container-name", "registry.example.com/some/team/image:1.2.3", "aarch64"},
				{"evil", "\x1b[2J", "arm"},
			},
		}
	}
	for width := 10; width < 130; width++ {
		var out strings.Builder
		u := New(Config{Out: Stream{Writer: &out, Size: func() (int, int) { return width, 24 }}, Plain: true})
		u.Table(table())
		for _, l := range strings.Split(out.String(), "\n") {
			if Columns(l) > width {
				t.Errorf("width %d: %q has %d columns", width, l, Columns(l))
			}
		}
		if strings.Contains(out.String(), "\x1b") {
			t.Error("an escape sequence came through")
		}
	}
	var out strings.Builder
	New(Config{Out: Stream{Writer: &out}}).Table(table())
	if !strings.Contains(out.String(), "registry.example.com/some/team/image:1.2.3") {
		t.Errorf("cut although the output is no terminal:\n%s", out.String())
	}
}
