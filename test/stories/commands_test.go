package stories

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdExits runs a program that must end with an exit code:
//
//	exits CODE PROGRAM [ARG...]
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG...]")
	}
	if code := run(ts, args[1], args[2:]...); strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, not %s", code, args[0])
	}
}

// run runs a program as `exec` does and returns its exit code, -1 when a signal ended it.
func run(ts *testscript.TestScript, program string, args ...string) int {
	err := ts.Exec(program, args...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Check(err)
	}
	if exit == nil {
		return 0
	}
	return exit.ExitCode()
}

// cmdUntil repeats a program until its output matches, for at most ten seconds:
//
//	until REGEXP PROGRAM [ARG...]
func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until REGEXP PROGRAM [ARG...]")
	}
	wanted, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		run(ts, args[1], args[2:]...)
		if wanted.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("%s never said %q", args[1], args[0])
}

// cmdSurvives interrupts a command that makes a container at random moments and checks that each time either all of the
// container is there or nothing:
//
//	survives INT|KILL|QUIT TIMES LONGEST CONTAINER PROGRAM [ARG...]
//
// It goes on until as many signals have hit. LONGEST is the latest moment, such as 800ms; a run that was faster sets it
// for the next ones.
func cmdSurvives(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 5 {
		ts.Fatalf("usage: survives INT|KILL|QUIT TIMES LONGEST CONTAINER PROGRAM [ARG...]")
	}
	signal, container, command := args[0], args[3], args[4:]
	times, err := strconv.Atoi(args[1])
	ts.Check(err)
	longest, err := time.ParseDuration(args[2])
	ts.Check(err)
	hits := 0
	for range 10 * times {
		if hits == times {
			return
		}
		after := rand.N(longest)
		ts.Logf("[%s after %s]", signal, after)
		begin := time.Now()
		code := run(ts, "timeout", append([]string{"-s", signal, "--preserve-status",
			fmt.Sprintf("%.3f", after.Seconds()+0.001)}, command...)...)
		took := time.Since(begin)
		run(ts, "pd", "list", "-q")
		listed := strings.TrimSpace(ts.ReadFile("stdout"))
		switch {
		case code != 0 && listed == "":
			hits++
			continue
		case code == 0 && listed == container:
			longest = min(longest, took)
		case signal == "KILL" && listed == container: // it hit between the last step and the end
		default:
			ts.Fatalf("exit code %d, and listed is %q", code, listed)
		}
		ts.Check(ts.Exec("pd", "login", container, "--", "true"))
		ts.Check(ts.Exec("pd", "remove", "-q", container))
	}
	ts.Fatalf("only %d of %d signals hit", hits, 10*times)
}

// cmdServe serves a directory over HTTP and sets FILES to host:port:
//
//	serve DIRECTORY
func cmdServe(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: serve DIRECTORY")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	server := &http.Server{Handler: http.FileServer(http.Dir(ts.MkAbs(args[0])))}
	go func() { _ = server.Serve(l) }() // ends with the story
	ts.Defer(func() { _ = server.Close() })
	ts.Setenv("FILES", l.Addr().String())
}

// environ is the story's whole environment, which testscript does not hand out.
func environ(ts *testscript.TestScript) []string {
	ts.Check(ts.Exec("env", "-0"))
	return strings.Split(strings.TrimSuffix(ts.ReadFile("stdout"), "\x00"), "\x00")
}
