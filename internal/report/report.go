// Package report is the narrow way in which domain packages speak to a person.
//
// They never print: they call a [Reporter], which package ui implements on a
// terminal and tests implement in memory. Text handed over may hold names from
// a stranger's archive; quoting it is the implementation's duty.
package report

import "io"

// A Reporter receives what a person should see while work goes on.
type Reporter interface {
	// Infof states a finished or starting step; silent with --quiet.
	Infof(format string, args ...any)
	// Warnf states something wrong that does not stop the work.
	Warnf(format string, args ...any)
	// Detailf states one entry of a long list; shown with --verbose only.
	Detailf(format string, args ...any)
	// Begin starts a progress line. The caller must call Done on the meter.
	Begin(t Task) Meter
}

// Unit says what a Task counts.
type Unit int

// Units of a Task.
const (
	Bytes Unit = iota
	Entries
)

// A Task is one progress line.
type Task struct {
	Label string
	Total int64 // 0 when not known
	Unit  Unit
}

// A Meter receives the progress of one Task. Its methods are safe for
// concurrent use.
type Meter interface {
	// Add counts n more units as done.
	Add(n int64)
	// Done ends the line; the work may have failed.
	Done()
}

// Discard is a Reporter that drops everything.
var Discard Reporter = discard{}

type discard struct{}

func (discard) Infof(string, ...any)   {}
func (discard) Warnf(string, ...any)   {}
func (discard) Detailf(string, ...any) {}
func (discard) Begin(Task) Meter       { return discard{} }
func (discard) Add(int64)              {}
func (discard) Done()                  {}

// Reader counts the bytes that are read from r.
func Reader(r io.Reader, m Meter) io.Reader { return metered{r, m} }

type metered struct {
	io.Reader
	meter Meter
}

func (m metered) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	m.meter.Add(int64(n))
	return n, err
}
