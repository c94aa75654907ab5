package ui

import (
	"os"

	"golang.org/x/sys/unix"
)

// terminal describes a standard stream; Size is nil unless it is a terminal.
func terminal(f *os.File) Stream {
	fd := int(f.Fd())
	if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err != nil {
		return Stream{Writer: f}
	}
	return Stream{Writer: f, Size: func() (int, int) {
		ws, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
		if err != nil || ws.Col == 0 || ws.Row == 0 {
			return 80, 24 // a serial line knows no size
		}
		return int(ws.Col), int(ws.Row)
	}}
}

// IsTerminal reports whether a person may be at the other end of a stream.
func IsTerminal(f *os.File) bool { return terminal(f).Size != nil }

// held reports whether another program reads keys from the terminal behind f:
// it has then turned echo or line editing off (termios(3): ECHO, ICANON), as
// pinentry does, and would be drawn over.
func held(f *os.File) bool {
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil && (t.Lflag&unix.ECHO == 0 || t.Lflag&unix.ICANON == 0)
}
