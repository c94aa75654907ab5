package ui

import (
	"slices"
	"strconv"
	"strings"
	"sync"
)

// screen is a terminal that understands what this package writes: line breaks,
// carriage returns and the sequences A (up), J and K (erase). It scrolls.
type screen struct {
	mu      sync.Mutex
	columns int
	rows    int
	lines   []string
	row     int
	bars    int // progress lines seen
	widest  int
}

func newScreen(columns, rows int) *screen {
	return &screen{columns: columns, rows: rows, lines: []string{""}}
}

func (s *screen) stream() Stream {
	return Stream{Writer: s, Size: func() (int, int) { return s.columns, s.rows }}
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := string(p)
	for text != "" {
		switch {
		case text[0] == '\n':
			s.row++
			if s.row == len(s.lines) {
				s.lines = append(s.lines, "")
			}
			text = text[1:]
		case text[0] == '\r':
			text = text[1:]
		case strings.HasPrefix(text, "\x1b["):
			end := strings.IndexAny(text, "AJK")
			s.control(text[end], text[2:end])
			text = text[end+1:]
		default:
			end := strings.IndexAny(text+"\n", "\n\r\x1b")
			s.print(text[:end])
			text = text[end:]
		}
	}
	return len(p), nil
}

func (s *screen) control(op byte, number string) {
	switch op {
	case 'A':
		n, err := strconv.Atoi(number)
		if err != nil || n > s.row || n > s.rows {
			panic("cursor moved above the screen")
		}
		s.row -= n
	case 'J':
		s.lines = append(s.lines[:s.row], "")
	}
}

// print always starts at the left margin: lines are written whole.
func (s *screen) print(text string) {
	s.lines[s.row] = text
	s.widest = max(s.widest, Columns(text))
	if strings.HasPrefix(text, "  layer") {
		s.bars++
	}
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.TrimSuffix(strings.Join(s.lines, "\n"), "\n")
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }
