package ui

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"proot-distro/internal/report"
)

func plain() (u *UI, out, err *strings.Builder) {
	out, err = new(strings.Builder), new(strings.Builder)
	return New(Config{Out: Stream{Writer: out}, Err: Stream{Writer: err}}), out, err
}

func say(u *UI) {
	u.Infof("installing %s", "a\x1b[0mb")
	u.Warnf("odd")
	u.Detailf("file %d", 1)
	u.Error("broken\nfurther", "try again")
	u.Line("result\x07")
}

func TestLevels(t *testing.T) {
	const info, warn, detail = "[*] installing a\\x1b[0mb\n", "[!] Warning: odd\n", " -> file 1\n"
	const failed = "Error: broken\n  further\ntry again\n"
	for level, want := range map[Level]string{
		Quiet: warn + failed, Normal: info + warn + failed, Verbose: info + warn + detail + failed,
	} {
		u, out, err := plain()
		u.SetLevel(level)
		say(u)
		if diff := cmp.Diff(want, err.String()); diff != "" {
			t.Errorf("level %d: %s", level, diff)
		}
		if out.String() != "result\\x07\n" {
			t.Errorf("level %d: output %q", level, out)
		}
	}
}

func TestColours(t *testing.T) {
	size := func() (int, int) { return 80, 24 }
	for _, c := range []struct {
		plain bool
		size  func() (int, int)
		want  string
	}{
		{false, size, "\x1b[1;34m[*]\x1b[0m x\n"},
		{true, size, "[*] x\n"},
		{false, nil, "[*] x\n"},
	} {
		var err strings.Builder
		u := New(Config{Err: Stream{Writer: &err, Size: c.size}, Plain: c.plain})
		u.Infof("x")
		if err.String() != c.want {
			t.Errorf("%+v: %q", c, err.String())
		}
	}
}

func TestOpenHonoursEnvironment(t *testing.T) {
	for _, c := range []struct {
		name, value string
		plain, dumb bool
	}{
		{"PD_FORCE_NO_COLORS", "", true, false},
		{"PD_FORCE_NO_COLORS", "0", true, false},
		{"NO_COLOR", "1", true, false},
		{"NO_COLOR", "", false, false},
		{"TERM", "dumb", true, true},
	} {
		t.Run(c.name+"="+c.value, func(t *testing.T) {
			for _, name := range []string{"NO_COLOR", "PD_FORCE_NO_COLORS"} {
				t.Setenv(name, "") // so that it is restored
				os.Unsetenv(name)
			}
			t.Setenv("TERM", "xterm")
			t.Setenv(c.name, c.value)
			u := Open(os.Stdout, os.Stderr)
			if u.cfg.Plain != c.plain || u.cfg.Dumb != c.dumb {
				t.Errorf("plain %v, dumb %v", u.cfg.Plain, u.cfg.Dumb)
			}
		})
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestCloseReportsLostOutput(t *testing.T) {
	u := New(Config{Out: Stream{Writer: fullDisk{}}, Err: Stream{Writer: &strings.Builder{}}})
	u.Line("x")
	if err := u.Close(); err == nil || err.Error() != "no space left" {
		t.Error(err)
	}
}

// While another program holds the terminal, notes are dropped and warnings wait.
func TestHeldTerminal(t *testing.T) {
	var held atomic.Bool
	held.Store(true)
	s := newScreen(60, 20)
	u := New(Config{Err: s.stream(), Plain: true, Held: held.Load})
	m := u.Begin(report.Task{Label: "layer", Total: 100})
	u.Infof("dropped")
	u.Warnf("kept")
	time.Sleep(2 * redrawEvery)
	if got := s.String(); got != "" {
		t.Errorf("drawn while held: %q", got)
	}
	held.Store(false)
	u.Infof("free")
	m.Done()
	if diff := cmp.Diff("[!] Warning: kept\n[*] free", s.String()); diff != "" {
		t.Error(diff)
	}
	held.Store(true)
	u.Warnf("last")
	if err := u.Close(); err != nil || !strings.HasSuffix(s.String(), "last") {
		t.Errorf("%v, %q", err, s)
	}
}

// Messages of several goroutines stay whole above the progress lines, and
// nothing but messages remains.
func TestProgressDoesNotTear(t *testing.T) {
	for _, columns := range []int{40, 80, 200} {
		s := newScreen(columns, 12)
		u := New(Config{Err: s.stream(), Plain: true})
		var all sync.WaitGroup
		var want []string
		for i := range 5 {
			want = append(want, fmt.Sprintf("[*] done %d", i))
			all.Go(func() {
				m := u.Begin(report.Task{Label: fmt.Sprintf("layer %d/5 of an image", i+1), Total: 1 << 30})
				defer m.Done()
				for range 20 {
					m.Add(1 << 24)
					time.Sleep(15 * time.Millisecond)
				}
				u.Infof("done %d", i)
			})
		}
		all.Wait()
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		got := strings.Split(s.String(), "\n")
		if diff := cmp.Diff(want, sorted(got)); diff != "" {
			t.Errorf("columns %d: %s", columns, diff)
		}
		if s.widest >= columns {
			t.Errorf("a line of %d columns on a terminal of %d", s.widest, columns)
		}
		if s.bars < 5 {
			t.Errorf("%d progress lines were drawn", s.bars)
		}
	}
}

func TestNoProgress(t *testing.T) {
	size := func() (int, int) { return 80, 24 }
	for name, cfg := range map[string]Config{
		"no terminal": {},
		"dumb":        {Err: Stream{Size: size}, Dumb: true},
		"quiet":       {Err: Stream{Size: size}},
	} {
		var err strings.Builder
		cfg.Err.Writer = &err
		u := New(cfg)
		if name == "quiet" {
			u.SetLevel(Quiet)
		}
		m := u.Begin(report.Task{Label: "x", Total: 10})
		m.Add(3)
		time.Sleep(2 * redrawEvery)
		m.Done()
		if err.Len() > 0 {
			t.Errorf("%s: %q", name, err.String())
		}
	}
}

func TestLine(t *testing.T) {
	now := time.Unix(1000, 0)
	b := &bar{task: report.Task{Label: "layer 1/2", Total: 100 << 20}, at: now, start: now}
	for range 5 {
		b.Add(10 << 20)
		now = now.Add(time.Second)
		b.measure(now)
	}
	for width, want := range map[int]string{
		100: "  layer 1/2     [###############---------------]   50.0 MiB/100 MiB  10.0 MiB/s   0:05   50%",
		60:  "  layer 1/2      50.0 MiB/100 MiB  10.0 MiB/s   0:05   50%",
		39:  "  layer 1/2     10.0 MiB/s   0:05   50%",
		36:  "  layer 1/2     10.0 MiB/s   0:05",
	} {
		if got := b.line(width); got != want {
			t.Errorf("width %d:\n got %q\nwant %q", width, got, want)
		}
	}
	for _, task := range []report.Task{
		{Label: strings.Repeat("long ", 30), Total: 1 << 62}, {Label: "entries", Unit: report.Entries}, {Label: "日本語の名前"},
	} {
		b := &bar{task: task, at: now, start: now}
		b.Add(1 << 61)
		b.measure(now.Add(time.Second))
		for width := range 120 {
			if l := b.line(width); Columns(l) > width {
				t.Errorf("width %d: %q", width, l)
			}
		}
	}
}

func TestClock(t *testing.T) {
	for in, want := range map[time.Duration]string{
		0: "0:00", 7400 * time.Millisecond: "0:07", 754 * time.Second: "12:34", 3 * time.Hour: "3:00:00", 1000 * time.Hour: "--:--",
	} {
		if got := clock(in); got != want {
			t.Errorf("%v: %s, want %s", in, got, want)
		}
	}
}
