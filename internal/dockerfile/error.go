package dockerfile

import (
	"errors"
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Error is a mistake, or a failure, that belongs to lines of a Dockerfile.
type Error struct {
	File      string
	Line, End int      // first and last line, from 1
	Lines     []string // of the file, for Excerpt
	Err       error
}

func (e *Error) Error() string { return fmt.Sprintf("%s, line %d: %v", e.File, e.Line, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// Excerpt shows the lines with a mark, and one line around them.
func (e *Error) Excerpt() []string {
	const most = 12 // of a long heredoc, the beginning will do
	var out []string
	for n := max(e.Line-1, 1); n <= min(e.End+1, len(e.Lines)); n++ {
		mark := " "
		if n >= e.Line && n <= e.End {
			mark = ">"
		}
		if len(out) == most {
			out = append(out, "     …")
			break
		}
		out = append(out, fmt.Sprintf("%4d %s %s", n, mark, strings.ReplaceAll(e.Lines[n-1], "\t", "    ")))
	}
	return out
}

// At blames lines for an error. An error that has its lines already keeps them.
func (f *File) At(where []parser.Range, err error) error {
	var known *Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	start, end := span(where)
	return f.at(start, end, plain(err))
}

func (f *File) at(start, end int, err error) error {
	lines := strings.Split(strings.TrimSuffix(string(f.source), "\n"), "\n")
	start = min(max(start, 1), len(lines))
	end = min(max(start, end), len(lines))
	for i := range lines {
		lines[i] = strings.TrimSuffix(lines[i], "\r")
	}
	return &Error{File: f.name, Line: start, End: end, Lines: lines, Err: err}
}

// located gives an error of BuildKit's its lines.
func (f *File) located(err error) error {
	var place *parser.LocationError
	if !errors.As(err, &place) || len(place.Locations) == 0 {
		return fmt.Errorf("%s: %w", f.name, plain(err))
	}
	return f.At(place.Locations[0], err)
}

// plain is an error of BuildKit's without its wrappings: the place is told otherwise.
func plain(err error) error {
	var place *parser.LocationError
	if errors.As(err, &place) {
		err = errors.New(place.Error())
	}
	switch text := err.Error(); {
	case text == "no build stage in current context":
		return errors.New("it stands before the first FROM, where only ARG may stand")
	case strings.HasSuffix(text, "unsupported modifier (\ufffd) in substitution"):
		return errors.New("a ${ is not closed")
	}
	return err
}

// span gives the first and the last line.
func span(ranges []parser.Range) (start, end int) {
	for i, r := range ranges {
		if i == 0 || r.Start.Line < start {
			start = r.Start.Line
		}
		end = max(end, r.End.Line)
	}
	return start, end
}
