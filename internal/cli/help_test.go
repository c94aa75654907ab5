package cli

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proot-distro/internal/ui"
)

func TestHelpFitsTheWidth(t *testing.T) {
	home(t)
	topics := []string{""}
	for _, cmd := range Table().Commands() {
		topics = append(topics, cmd.Name())
	}
	for _, width := range []int{1, 32, 40, 59, 60, 80, 92, 200} {
		t.Setenv("COLUMNS", strconv.Itoa(width))
		limit := min(max(width, 32), 92)
		for _, topic := range topics {
			r := pd(t, strings.Fields("help "+topic)...)
			if r.code != 0 || !strings.Contains(r.out, "\nOptions:\n") {
				t.Fatalf("help %s: %d %s%s", topic, r.code, r.out, r.err)
			}
			for _, l := range strings.Split(r.out, "\n") {
				if ui.Columns(l) > limit && len(strings.Fields(l)) > 1 {
					t.Errorf("help %s at width %d: %d columns: %q", topic, width, ui.Columns(l), l)
				}
			}
			// Below 60 columns what an option does stands below it.
			stacked := strings.Contains(r.out, "--help\n      Print this help.\n")
			if stacked != (limit < 60) {
				t.Errorf("help %s at width %d: stacked is %v:\n%s", topic, width, stacked, r.out)
			}
		}
	}
}

func TestHelpLayout(t *testing.T) {
	home(t)
	for width, want := range map[string]string{
		"80": `Usage: proot-distro kill [OPTIONS] [PID | CONTAINER]...

Send a signal to every process of running sessions, named by the process ID that
ps shows, or by their container. A session ends when its last process does.

Options:
  -s, --signal SIG  Send SIG instead of TERM: a name or a number.
  --all             Signal all sessions.
  -q, --quiet       Print errors and warnings only.
  -h, --help        Print this help.

Examples:
  proot-distro kill debian

  # What does not listen
  proot-distro kill --signal KILL debian

  proot-distro kill --all
`,
		"32": `Usage: proot-distro kill
    [OPTIONS] [PID |
    CONTAINER]...

Send a signal to every process
of running sessions, named by
the process ID that ps shows, or
by their container. A session
ends when its last process does.

Options:
  -s, --signal SIG
      Send SIG instead of TERM:
      a name or a number.
  --all
      Signal all sessions.
  -q, --quiet
      Print errors and warnings
      only.
  -h, --help
      Print this help.

Examples:
  proot-distro kill debian

  # What does not listen
  proot-distro kill --signal \
      KILL debian

  proot-distro kill --all
`,
	} {
		t.Setenv("COLUMNS", width)
		if diff := cmp.Diff(want, runAs(t, "proot-distro", "kill", "--help").out); diff != "" {
			t.Errorf("width %s:\n%s", width, diff)
		}
	}
}

// A continued example is the same command line when it is pasted.
func TestExamplesCanBePasted(t *testing.T) {
	const line = "pd install registry.example.com/team/image:1.0 --name work --architecture aarch64"
	for width := 32; width <= 92; width++ {
		h := &helpText{app: &App{Program: "pd"}, width: width}
		h.examples(line)
		got := strings.Join(strings.Fields(strings.ReplaceAll(h.String(), "\\\n", "")), " ")
		if got != line {
			t.Errorf("width %d: %s", width, got)
		}
	}
}

func TestMainHelp(t *testing.T) {
	home(t)
	r := pd(t)
	r.want(t, 0, "Usage: pd COMMAND [OPTIONS]\n", "")
	at := -1
	for _, section := range []string{"\nCommands:\n  ", "\nOptions:\n", "\nExit codes:\n", "\nRun 'pd help COMMAND'"} {
		next := strings.Index(r.out, section)
		if next <= at {
			t.Errorf("section %q is missing or misplaced in\n%s", section, r.out)
		}
		at = next
	}
	for _, row := range ExitCodes() {
		if !strings.Contains(r.out, "\n  "+row[0]+" ") {
			t.Errorf("exit code %s is not listed", row[0])
		}
	}
}
