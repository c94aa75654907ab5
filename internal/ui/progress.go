package ui

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"proot-distro/internal/report"
)

// Progress: one line per task (a [Step] has a few) at the bottom of the terminal, redrawn in one
// write; messages are written above. Finished lines go away, so that what
// stays on the screen reads like a log.

const (
	redrawEvery = 100 * time.Millisecond
	rateSpan    = 3 * time.Second // how quickly the rate forgets
	maxBar      = 30
)

// drawn is something at the bottom of the screen. Its methods are called with mu held.
type drawn interface {
	measure(now time.Time)
	lines(width int) []string // clean, and no wider
}

// bars are the progress lines on the screen.
type bars struct {
	active []drawn
	shown  int // lines now on the screen, the cursor below them
	stop   chan struct{}
}

// bar is one task's line; it implements [report.Meter].
type bar struct {
	ui    *UI
	task  report.Task
	done  atomic.Int64
	rate  float64 // units a second, smoothed
	seen  int64   // done at the last frame
	at    time.Time
	start time.Time
}

// Begin starts a progress line. There are none with --quiet or without a
// terminal.
func (u *UI) Begin(t report.Task) report.Meter {
	if u.level <= Quiet || !u.Live() {
		return report.Discard.Begin(t)
	}
	t.Label = Clean(t.Label)
	now := time.Now()
	b := &bar{ui: u, task: t, at: now, start: now}
	u.show(b)
	return b
}

// Live reports whether lines on the screen can be drawn anew.
func (u *UI) Live() bool { return u.cfg.Err.Size != nil && !u.cfg.Dumb }

// show adds something at the bottom.
func (u *UI) show(d drawn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.bars.active = append(u.bars.active, d)
	if u.bars.stop == nil {
		u.bars.stop = make(chan struct{})
		go u.redraw(u.bars.stop)
	}
}

// Add counts n more units.
func (b *bar) Add(n int64) { b.done.Add(n) }

// Done takes the line away.
func (b *bar) Done() { b.ui.hide(b) }

// hide takes something away from the bottom.
func (u *UI) hide(d drawn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if i := slices.Index(u.bars.active, d); i >= 0 {
		u.bars.active = slices.Delete(u.bars.active, i, i+1)
		u.erase()
		u.draw()
	}
	if len(u.bars.active) == 0 && u.bars.stop != nil {
		close(u.bars.stop)
		u.bars.stop = nil
	}
}

func (u *UI) stopBars() {
	u.mu.Lock()
	active := slices.Clone(u.bars.active)
	u.mu.Unlock()
	for _, d := range active {
		u.hide(d)
	}
}

func (u *UI) redraw(stop chan struct{}) {
	tick := time.NewTicker(redrawEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case now := <-tick.C:
			u.mu.Lock()
			for _, b := range u.bars.active {
				b.measure(now)
			}
			u.draw()
			u.mu.Unlock()
		}
	}
}

// measure brings the smoothed rate up to date.
func (b *bar) measure(now time.Time) {
	span := now.Sub(b.at).Seconds()
	if span <= 0 {
		return
	}
	done := b.done.Load()
	current := float64(done-b.seen) / span
	// Weigh the whole run while it is young, the last seconds later.
	weight := span / min(max(now.Sub(b.start).Seconds(), span), rateSpan.Seconds())
	b.rate += (current - b.rate) * min(weight, 1)
	b.seen, b.at = done, now
}

// erase takes the progress lines off the screen. The caller holds mu.
func (u *UI) erase() {
	if u.bars.shown > 0 && !u.cfg.Held() {
		fmt.Fprintf(u.cfg.Err, "\x1b[%dA\r\x1b[J", u.bars.shown)
	}
	u.bars.shown = 0 // what another program drew over is not ours any more
}

// draw puts the progress lines on the screen, over those already there. The
// caller holds mu.
func (u *UI) draw() {
	if u.cfg.Held() {
		u.bars.shown = 0
		return
	}
	if len(u.bars.active) == 0 {
		return
	}
	columns, rows := u.cfg.Err.Size()
	var b strings.Builder
	if u.bars.shown > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r", u.bars.shown)
	}
	var lines []string
	for _, d := range u.bars.active {
		// The last column stays free: some terminals wrap when it is filled.
		lines = append(lines, d.lines(columns-1)...)
	}
	lines = lines[:min(len(lines), max(rows-2, 1))]
	for _, line := range lines {
		b.WriteString(line + "\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	u.bars.shown = len(lines)
	_, _ = io.WriteString(u.cfg.Err, b.String()) // a lost frame is no loss
}

func (b *bar) lines(width int) []string { return []string{b.line(width)} }

// line lays the task out in width columns: label, bar, amount, rate, time
// left, share. What finds no room is left out: the bar first, then the amount,
// the share and the rate.
func (b *bar) line(width int) string {
	done := b.done.Load()
	fields := b.fields(done)
	wanted := min(max(Columns(b.task.Label), 12), max(12, width*2/5), 32)
	room := func() int {
		n := width - 2
		for _, f := range fields {
			if f != "" {
				n -= 2 + Columns(f)
			}
		}
		return n
	}
	for _, least := range []int{amountField, shareField, rateField} {
		if room() < wanted {
			fields[least] = ""
		}
	}
	label := max(0, min(room(), wanted))
	line := "  " + Pad(Cut(b.task.Label, label), label)
	if free := room() - label - 4; b.task.Total > 0 && free >= 8 {
		size := min(free, maxBar)
		filled := int(float64(size) * share(done, b.task.Total))
		line += "  [" + strings.Repeat("#", filled) + strings.Repeat("-", size-filled) + "]"
	}
	for _, f := range fields {
		if f != "" {
			line += "  " + f
		}
	}
	return Cut(line, width)
}

// The fields after the bar.
const (
	amountField = iota
	rateField
	leftField
	shareField
	fieldCount
)

// fields are the texts after the bar, padded so that lines do not jitter.
func (b *bar) fields(done int64) (fields [fieldCount]string) {
	number := Size
	if b.task.Unit == report.Entries {
		number = func(n int64) string { return fmt.Sprint(n) }
	}
	total := b.task.Total
	fields[amountField] = fmt.Sprintf("%9s", number(done))
	fields[rateField] = fmt.Sprintf("%10s", number(int64(b.rate))+"/s")
	if total <= 0 {
		return fields
	}
	left := "--:--"
	if b.rate >= 1 && done > 0 {
		left = clock(time.Duration(float64(max(total-done, 0)) / b.rate * float64(time.Second)))
	}
	fields[amountField] += "/" + number(total)
	fields[leftField] = fmt.Sprintf("%5s", left)
	fields[shareField] = fmt.Sprintf("%3d%%", int(100*share(done, total)))
	return fields
}

// share is how much of total is done, 0 to 1.
func share(done, total int64) float64 { return float64(min(max(done, 0), total)) / float64(total) }

// clock writes a time left: 0:07, 12:34, 3:00:00.
func clock(d time.Duration) string {
	s := int64(d.Seconds() + 0.5)
	if s >= 100*3600 {
		return "--:--"
	}
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}
