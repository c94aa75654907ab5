package ui

import "strings"

// A Table is rows under headings. On a terminal it never exceeds the width:
// the columns named in Flexible are cut first, then columns are left out from
// the right. Elsewhere nothing is cut.
type Table struct {
	Header   []string
	Flexible []int // columns that may be cut, most patient first
	Rows     [][]string
}

const (
	columnGap   = 2
	minFlexible = 8 // a column cut below this says nothing
)

// Table writes t to standard output.
func (u *UI) Table(t Table) {
	for _, row := range t.Rows {
		for i := range row {
			row[i] = Clean(row[i])
		}
	}
	widths := t.fit(u.Width())
	var b strings.Builder
	b.WriteString(u.Bold(line(t.Header, widths)) + "\n")
	for _, row := range t.Rows {
		b.WriteString(line(row, widths) + "\n")
	}
	u.Print(b.String())
}

// fit chooses the columns' widths, dropping trailing ones that find no room.
func (t Table) fit(width int) []int {
	widths := make([]int, len(t.Header))
	for i, h := range t.Header {
		widths[i] = Columns(h)
		for _, row := range t.Rows {
			widths[i] = max(widths[i], Columns(row[i]))
		}
	}
	if width <= 0 {
		return widths
	}
	for {
		over := columnGap*(len(widths)-1) - width
		for _, w := range widths {
			over += w
		}
		cut := append([]int(nil), widths...)
		for _, c := range t.Flexible {
			if c < len(cut) && over > 0 {
				less := min(over, max(0, cut[c]-minFlexible))
				cut[c], over = cut[c]-less, over-less
			}
		}
		if over <= 0 || len(widths) == 1 {
			return cut
		}
		widths = widths[:len(widths)-1]
	}
}

func line(cells []string, widths []int) string {
	var b strings.Builder
	for i, w := range widths {
		cell := Cut(cells[i], w)
		if i < len(widths)-1 {
			cell = Pad(cell, w+columnGap)
		}
		b.WriteString(cell)
	}
	return strings.TrimRight(b.String(), " ")
}
