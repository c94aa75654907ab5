package flock

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestLock(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	open := func() *os.File {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	first, second := open(), open()
	for _, step := range []struct {
		file *os.File
		how  int
		want bool
	}{{first, unix.LOCK_SH, true}, {second, unix.LOCK_SH, true}, {second, unix.LOCK_EX, false}, {second, unix.LOCK_UN, true}, {first, unix.LOCK_EX, true}, {second, unix.LOCK_SH, false}} {
		if held, err := Try(step.file, step.how); err != nil || held != step.want {
			t.Errorf("%+v: %v, %v", step, held, err)
		}
	}
	Sign(first, "a longer command")
	Sign(first, "test")
	if diff := cmp.Diff(Holder{PID: os.Getpid(), Command: "test"}, Find(second)); diff != "" {
		t.Error(diff)
	}
}

func TestHolderSays(t *testing.T) {
	for want, h := range map[string]Holder{
		"another process": {},
		"login (PID 7)":   {PID: 7, Command: "login"},
		"background processes of login (PID 7, which has ended)": {PID: 7, Command: "login", Gone: true},
		"another process (PID 7)":                                {PID: 7},
	} {
		if h.String() != want {
			t.Errorf("%+v says %s", h, h)
		}
	}
}

func TestParseLocks(t *testing.T) {
	const text = `1: POSIX  ADVISORY  WRITE 10 08:01:100 0 EOF
2: FLOCK  ADVISORY  WRITE 11 08:01:100 0 EOF
2: -> FLOCK  ADVISORY  WRITE 12 08:01:100 0 EOF
3: FLOCK  ADVISORY  READ  13 08:01:100 0 EOF
4: FLOCK  ADVISORY  READ  14 08:02:100 0 EOF
5: FLOCK  ADVISORY  READ  0 08:01:100 0 EOF
6: FLOCK
7: OFDLCK ADVISORY  READ -1 08:01:100 0 EOF
`
	if diff := cmp.Diff([]int{11, 13}, parseLocks(text, "08:01:100")); diff != "" {
		t.Error(diff)
	}
}

func FuzzParseHolder(f *testing.F) {
	for _, s := range []string{"123 login", "1 clear-cache\n", "", "0 login", "-1 x", "99999999999 x", "12", "12 \x1b[0m", "7 a  "} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		pid, command := parseHolder(content)
		if (pid > 0) != (command != "") || pid < 0 {
			t.Errorf("%d, %q", pid, command)
		}
		if strings.ContainsFunc(command, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("not safe to show: %q", command)
		}
		if pid > 0 {
			again, same := parseHolder(fmt.Appendf(nil, "%d %s", pid, command))
			if again != pid || same != command {
				t.Errorf("%d %q becomes %d %q", pid, command, again, same)
			}
		}
	})
}
