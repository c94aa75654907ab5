package stories

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// cmdTerminal runs a program at a terminal of 80 columns and plays a person:
//
//	terminal SCRIPT PROGRAM [ARG...]
//
// Each line of the file SCRIPT is one of
//
//	expect REGEXP   wait until the screen's output since the last expect matches
//	type TEXT       in Go's escapes: \r is Enter, \x03 is ^C
//	size COLUMNS    resize the terminal
//	exit CODE       wait for the program's end
//
// What the program wrote becomes stdout.
func cmdTerminal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: terminal SCRIPT PROGRAM [ARG...]")
	}
	script := ts.ReadFile(args[0])
	env := environ(ts)
	s, err := openScreen(80)
	ts.Check(err)
	defer s.close()
	program, err := lookPath(env, args[1])
	ts.Check(err)
	cmd := exec.Command(program, args[2:]...)
	cmd.Dir, cmd.Env = ts.MkAbs("."), append(env, "TERM=xterm")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.tty, s.tty, s.tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	ts.Check(cmd.Start())
	_ = s.tty.Close() // the child has it
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in ProcessState
		close(ended)
	}()
	defer func() { _ = cmd.Process.Kill() }() // gone already if all went well
	for line := range strings.Lines(script) {
		if err := s.play(strings.TrimSuffix(line, "\n"), cmd, ended); err != nil {
			ts.Fatalf("%v\nThe screen was:\n%s", err, s.all())
		}
	}
	fmt.Fprint(ts.Stdout(), s.all())
}

func lookPath(env []string, program string) (string, error) {
	for _, v := range env {
		dirs, ok := strings.CutPrefix(v, "PATH=")
		if !ok {
			continue
		}
		for dir := range strings.SplitSeq(dirs, ":") {
			if path := dir + "/" + program; unix.Access(path, unix.X_OK) == nil {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("no program %s", program)
}

// screen is a pseudo-terminal with what was written to it.
type screen struct {
	ptmx, tty *os.File
	mu        sync.Mutex
	out       bytes.Buffer
	seen      int // what earlier expects have consumed
}

func openScreen(columns uint16) (*screen, error) {
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	n, err := unix.IoctlGetUint32(int(ptmx.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(ptmx.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		return nil, errors.Join(err, ptmx.Close())
	}
	tty, err := os.OpenFile("/dev/pts/"+strconv.Itoa(int(n)), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, errors.Join(err, ptmx.Close())
	}
	s := &screen{ptmx: ptmx, tty: tty}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := ptmx.Read(buf)
			s.mu.Lock()
			s.out.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return // EIO: the program has gone
			}
		}
	}()
	return s, s.resize(columns)
}

func (s *screen) close() { _ = s.ptmx.Close() }

func (s *screen) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.String()
}

func (s *screen) resize(columns uint16) error {
	return unix.IoctlSetWinsize(int(s.ptmx.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns})
}

func (s *screen) play(line string, cmd *exec.Cmd, ended <-chan struct{}) error {
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "expect":
		return s.expect(rest, cmd, ended)
	case "type":
		text, err := strconv.Unquote(`"` + rest + `"`)
		if err == nil {
			_, err = s.ptmx.WriteString(text)
		}
		return err
	case "size":
		n, err := strconv.ParseUint(rest, 10, 16)
		if err == nil {
			err = s.resize(uint16(n))
		}
		return err
	case "exit":
		select {
		case <-ended:
			if code := cmd.ProcessState.ExitCode(); strconv.Itoa(code) != rest {
				return fmt.Errorf("exit code %d, not %s", code, rest)
			}
			return nil
		case <-time.After(20 * time.Second):
			return errors.New("the program does not end")
		}
	}
	return fmt.Errorf("unknown line %q", line)
}

func (s *screen) expect(pattern string, cmd *exec.Cmd, ended <-chan struct{}) error {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	deadline := time.After(20 * time.Second)
	for last, over := false, false; !s.find(re); {
		switch {
		case over:
			return fmt.Errorf("nothing matches %q, and the program has ended: %v", pattern, cmd.ProcessState)
		case last:
			return fmt.Errorf("nothing matches %q", pattern)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			last = true
		case <-ended:
			time.Sleep(100 * time.Millisecond) // what it wrote last may be on its way
			over = true
		}
	}
	return nil
}

// find consumes what matches, and all before it.
func (s *screen) find(re *regexp.Regexp) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := re.FindIndex(s.out.Bytes()[s.seen:])
	if at != nil {
		s.seen += at[1]
	}
	return at != nil
}
