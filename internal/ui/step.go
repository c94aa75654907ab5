package ui

import (
	"fmt"
	"strings"
	"time"
)

// Step is work that prints lines of its own. While it goes on, its name, its time and the last of these
// lines are at the bottom of the terminal; name and time stay. It is for terminals that are [UI.Live].
type Step struct {
	ui    *UI
	name  string
	start time.Time
	tail  []string // guarded by the UI's mu
}

// stepLines is how many lines of a step are seen.
const stepLines = 6

// BeginStep shows a step. The caller must call Done.
func (u *UI) BeginStep(name string) *Step {
	s := &Step{ui: u, name: Clean(name), start: time.Now()}
	u.show(s)
	return s
}

// Line shows a line that the step printed.
func (s *Step) Line(text string) {
	s.ui.mu.Lock()
	defer s.ui.mu.Unlock()
	if len(s.tail) == stepLines {
		s.tail = append(s.tail[:0], s.tail[1:]...)
	}
	s.tail = append(s.tail, Clean(strings.ReplaceAll(text, "\t", "  ")))
}

// Done ends the step.
func (s *Step) Done(failed bool) {
	s.ui.hide(s)
	color, mark := blue, "[*]"
	if failed {
		color, mark = red, "[!]"
	}
	columns, _ := s.ui.cfg.Err.Size()
	s.ui.note(color, mark, "%s", []any{s.title(columns - 5)})
}

// title is the step's name and time.
func (s *Step) title(width int) string {
	elapsed := spent(time.Since(s.start))
	name := max(width-2-Columns(elapsed), 0)
	return Cut(Pad(Cut(s.name, name), name)+"  "+elapsed, width)
}

func (s *Step) measure(time.Time) {}

func (s *Step) lines(width int) []string {
	lines := []string{"    " + s.title(width-4)}
	for _, text := range s.tail {
		lines = append(lines, Cut("      "+text, width))
	}
	return lines
}

// spent writes how long something took: 0.4s, 59.9s, 1:00.
func spent(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%d.%ds", d/time.Second, d%time.Second/(time.Second/10))
	}
	return clock(d)
}
