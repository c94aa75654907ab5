package ui

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"proot-distro/internal/report"
)

func TestStep(t *testing.T) {
	s := newScreen(40, 12)
	u := New(Config{Err: s.stream(), Plain: true})
	step := u.BeginStep("[1/2] RUN a command with a very long line of arguments")
	meter := u.Begin(report.Task{Label: "layer 1/1", Total: 100})
	for i := range stepLines + 3 {
		step.Line(fmt.Sprintf("a\tline \x1b[31m of no importance, number %d", i))
	}
	time.Sleep(3 * redrawEvery)
	meter.Done()
	shown := strings.Split(s.String(), "\n")
	if len(shown) != 1+stepLines || !strings.HasPrefix(shown[0], "    [1/2] RUN a command with a") ||
		!strings.Contains(shown[1], `      a  line \x1b[31m of no`) {
		t.Errorf("the screen shows %q", shown)
	}
	u.Infof("a message")
	step.Done(false)
	failing := u.BeginStep("[2/2] RUN false")
	failing.Done(true)
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	want := []string{"[*] a message", "[*] [1/2] RUN a command with a v…  0.3s", "[!] [2/2] RUN false                0.0s"}
	for i, line := range strings.Split(s.String(), "\n") {
		if i >= len(want) || len(line) < 5 || line[:len(line)-4] != want[i][:len(want[i])-4] && i > 0 || i == 0 && line != want[i] {
			t.Errorf("line %d: %q", i, line)
		}
	}
	if s.widest >= 40 {
		t.Errorf("a line of %d columns on a terminal of 40", s.widest)
	}
}

func TestSpent(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0s", 59 * time.Millisecond: "0.0s", 12345 * time.Millisecond: "12.3s",
		59990 * time.Millisecond: "59.9s", 61 * time.Second: "1:01", 2 * time.Hour: "2:00:00",
	} {
		if got := spent(d); got != want {
			t.Errorf("%v: %s", d, got)
		}
	}
}
