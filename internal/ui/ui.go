// Package ui is the only part of the program that writes to a terminal, and
// this file is its whole policy.
//
// Results (tables, help, a command line asked for) go to standard output;
// messages and progress go to standard error. Colours and progress lines exist
// only on a terminal. Text that came from outside (names in archives, answers
// of registries) passes through [Clean], so no control character of a stranger
// reaches the screen.
//
// While another program holds the terminal (pinentry asking for a passphrase
// at the other end of a pipe), nothing is drawn: notes are dropped, warnings
// wait until it is free or the command ends.
package ui

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"proot-distro/internal/report"
)

// Level says how much is told.
type Level int

// Levels, as chosen with --quiet and --verbose.
const (
	Quiet Level = iota - 1
	Normal
	Verbose
)

// A Stream is somewhere to write.
type Stream struct {
	io.Writer
	// Size gives the terminal's columns and rows now; nil when the stream is
	// not a terminal.
	Size func() (columns, rows int)
}

// Config is what a UI writes to, and how.
type Config struct {
	Out, Err Stream
	// Plain forbids colours; Dumb forbids moving the cursor as well.
	Plain, Dumb bool
	// Held reports whether another program has the terminal behind Err.
	Held func() bool
}

// UI implements [report.Reporter]. It is safe for concurrent use.
type UI struct {
	cfg   Config
	level Level

	mu     sync.Mutex // guards what follows, and every write
	held   []string   // warnings that wait for the terminal
	outErr error      // first failure to write a result
	bars   bars
}

var _ report.Reporter = (*UI)(nil)

// New returns a UI over streams of the caller's.
func New(cfg Config) *UI {
	if cfg.Held == nil {
		cfg.Held = func() bool { return false }
	}
	return &UI{cfg: cfg}
}

// Open returns a UI over the process's standard streams.
func Open(stdout, stderr *os.File) *UI {
	_, forced := os.LookupEnv("PD_FORCE_NO_COLORS") // any value, even none
	dumb := os.Getenv("TERM") == "dumb"
	return New(Config{
		Out:   terminal(stdout),
		Err:   terminal(stderr),
		Plain: forced || os.Getenv("NO_COLOR") != "" || dumb,
		Dumb:  dumb,
		Held:  func() bool { return held(stderr) },
	})
}

// SetLevel chooses how much is told; to be called before work starts.
func (u *UI) SetLevel(l Level) { u.level = l }

// Level is how much is told.
func (u *UI) Level() Level { return u.level }

// Infof states a step: "[*] …".
func (u *UI) Infof(format string, args ...any) {
	if u.level > Quiet {
		u.note(blue, "[*]", format, args)
	}
}

// Detailf states one entry of a long list; only with --verbose.
func (u *UI) Detailf(format string, args ...any) {
	if u.level >= Verbose {
		u.note(cyan, " ->", format, args)
	}
}

func (u *UI) note(c color, mark, format string, args []any) {
	line := u.errStyle(c, mark) + " " + Clean(fmt.Sprintf(format, args...))
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.cfg.Held() {
		u.message(line)
	}
}

// Warnf states something wrong that does not stop the work: "[!] Warning: …".
func (u *UI) Warnf(format string, args ...any) {
	line := u.errStyle(yellow, "[!] Warning:") + " " + Clean(fmt.Sprintf(format, args...))
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.cfg.Held() {
		u.held = append(u.held, line)
		return
	}
	u.message(line)
}

// Error states why the command failed, and in lines of their own what to do
// about it. It is shown at every level.
func (u *UI) Error(err string, hints ...string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.message(u.errStyle(red, "Error:") + " " + cleanLines(err))
	for _, h := range hints {
		u.message(cleanLines(h))
	}
}

// Message writes a line of ours to standard error at every level.
func (u *UI) Message(text string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.message(cleanLines(text))
}

// message writes lines to standard error above the progress lines. The caller
// holds mu.
func (u *UI) message(text string) {
	u.erase()
	for _, w := range u.held {
		fmt.Fprintln(u.cfg.Err, w)
	}
	u.held = nil
	fmt.Fprintln(u.cfg.Err, text)
	u.draw()
}

// Close ends progress and shows warnings that waited. It returns the first
// failure to write results: a full disk must not look like success.
func (u *UI) Close() error {
	u.stopBars()
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, w := range u.held {
		fmt.Fprintln(u.cfg.Err, w)
	}
	u.held = nil
	return u.outErr
}

// Print writes a result to standard output as it is: help, or text that passed
// through [Clean] line by line.
func (u *UI) Print(text string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.erase()
	if _, err := io.WriteString(u.cfg.Out, text); err != nil && u.outErr == nil {
		u.outErr = err
	}
	u.draw()
}

// Line writes one line of a result.
func (u *UI) Line(text string) { u.Print(Clean(text) + "\n") }

// Width is the columns of the terminal behind standard output, 0 when it is
// not a terminal.
func (u *UI) Width() int { return u.cfg.Out.width() }

// ErrWidth is the same of standard error.
func (u *UI) ErrWidth() int { return u.cfg.Err.width() }

// Bold makes a heading on standard output.
func (u *UI) Bold(text string) string {
	if u.cfg.Plain || u.cfg.Out.Size == nil {
		return text
	}
	return string(bold) + text + string(reset)
}

func (s Stream) width() int {
	if s.Size == nil {
		return 0
	}
	columns, _ := s.Size()
	return columns
}

type color string

const (
	red    color = "\x1b[1;31m"
	yellow color = "\x1b[33m"
	blue   color = "\x1b[1;34m"
	cyan   color = "\x1b[36m"
	bold   color = "\x1b[1m"
	reset  color = "\x1b[0m"
)

func (u *UI) errStyle(c color, text string) string {
	if u.cfg.Plain || u.cfg.Err.Size == nil {
		return text
	}
	return string(c) + text + string(reset)
}

// cleanLines keeps line breaks but indents what follows one, so that no name
// with a line break in it can forge a message.
func cleanLines(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, l := range lines {
		lines[i] = Clean(l)
	}
	return strings.Join(lines, "\n  ")
}
