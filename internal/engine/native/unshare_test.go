package native

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// serveUnshare runs this test binary again in namespaces, where it becomes a shell that
// runs a script.
func serveUnshare(script string) (int, error) {
	if _, inside := Unshared(); !inside {
		return Unshare(SingleID, nil)
	}
	runtime.LockOSThread()
	if unix.Gettid() != os.Getpid() {
		// The main thread alone gets the signal of the parent's death, and this one is about to take its place.
		if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
			return 0, err
		}
	}
	return 0, unix.Exec("/bin/sh", []string{"sh", "-c", script}, os.Environ())
}

func unshareCommand(script string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", "-test.run=none")
	cmd.Env = append(os.Environ(), unshareVar+"="+script)
	cmd.Stderr = os.Stderr
	return cmd
}

func TestUnshare(t *testing.T) {
	outside, err := os.Readlink("/proc/self/ns/mnt")
	must(t, err)
	t.Chdir(t.TempDir())
	script := `id -u; readlink /proc/self/ns/mnt; ulimit -n; cat; mount -t tmpfs none "$PWD" && touch "$PWD/in-tmpfs"; exit 7`
	cmd := unshareCommand(script)
	self, err := os.Executable()
	must(t, err)
	// Below a shell: the Go program that this is has raised its own limits.
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", `"$0" -test.run=none; exit $?`, self}
	cmd.Stdin = strings.NewReader("from outside\n")
	out, _ := cmd.Output()
	if status := cmd.ProcessState.ExitCode(); status != 7 {
		t.Errorf("status %d, want 7", status)
	}
	lines := strings.Split(string(out), "\n")
	if len(lines) < 4 || lines[0] != "0" || lines[1] == outside || lines[3] != "from outside" {
		t.Errorf("it said %q", out)
	}
	plain, err := exec.Command("sh", "-c", "ulimit -n").Output()
	must(t, err)
	if len(lines) > 2 && lines[2] != strings.TrimSpace(string(plain)) {
		t.Errorf("file limit %s, want %s", lines[2], plain)
	}
	if _, err := os.Lstat("in-tmpfs"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a mount came out: %v", err)
	}
}

func TestUnshareSignals(t *testing.T) {
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, unix.SIGHUP} {
		cmd, _ := startUnshared(t, fmt.Sprintf(`trap 'exit 5' %d; echo $$; while :; do sleep 0.02; done`, int(signal)))
		must(t, cmd.Process.Signal(signal))
		_ = cmd.Wait() // the status tells
		if status := cmd.ProcessState.ExitCode(); status != 5 {
			t.Errorf("%v: status %d, want 5", signal, status)
		}
	}
	cmd, inner := startUnshared(t, `echo $$; exec sleep 60`)
	must(t, unix.Kill(inner, unix.SIGKILL))
	_ = cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != 137 {
		t.Errorf("killed inside: status %d, want 137", status)
	}
	cmd, inner = startUnshared(t, `echo $$; exec sleep 60`)
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	for deadline := time.Now().Add(5 * time.Second); unix.Kill(inner, 0) == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it outlives its parent")
		}
	}
}

// startUnshared starts a script that prints its process ID first.
func startUnshared(t *testing.T, script string) (cmd *exec.Cmd, inner int) {
	t.Helper()
	cmd = unshareCommand(script)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	inner, err = strconv.Atoi(strings.TrimSpace(line))
	must(t, err)
	return cmd, inner
}

// Who only sets the variable is not inside.
func TestUnsharedForged(t *testing.T) {
	own, err := os.Readlink("/proc/self/ns/mnt")
	must(t, err)
	for _, value := range []string{"", "1", own} {
		t.Setenv(insideEnv, value)
		if _, inside := Unshared(); inside {
			t.Errorf("%q is believed", value)
		}
	}
	if os.Geteuid() != 0 {
		t.Setenv(insideEnv, "mnt:[1]")
		if _, inside := Unshared(); inside {
			t.Error("believed without being root")
		}
	}
}

func TestFullMapDenied(t *testing.T) {
	const nobody = 2147483646 // to whom nothing is granted
	t.Setenv("PATH", t.TempDir())
	_, err := grantedMaps(nobody, nobody)
	var full *FullMapError
	if !errors.As(err, &full) || full.Problem != "the program newuidmap is missing" || !strings.Contains(full.Fix(), "package uidmap") {
		t.Errorf("without newuidmap: %v", err)
	}
	for _, program := range []string{newuidmap, newgidmap} {
		failing := []byte("#!/bin/sh\necho $0: no >&2\nexit 1\n")
		must(t, os.WriteFile(filepath.Join(os.Getenv("PATH"), program), failing, 0o755))
	}
	_, err = grantedMaps(nobody, nobody)
	if !errors.As(err, &full) || full.Problem != "/etc/subuid grants none to user 2147483646" ||
		!strings.Contains(full.Fix(), "usermod --add-subuids 100000-165535 2147483646") {
		t.Errorf("without a line: %v", err)
	}
	err = (&idMaps{uids: "0 1 1\n", gids: "0 1 1\n", granted: true}).write(os.Getpid())
	if !errors.As(err, &full) || !strings.HasSuffix(full.Problem, "newuidmap: no") {
		t.Errorf("newuidmap fails: %v", err)
	}
}

func TestGrants(t *testing.T) {
	file := "alice:100000:65536\n1000:300000:10\nbob:165536:65536\nalice:200000:5\nalice:x:5\nalice:7\nalice:1:0\n" +
		"alice:4294967290:65536\n:5:5\n  1000:400000:1\nalice:-1:5"
	var got string
	for _, g := range grants([]byte(file), "alice", "1000") {
		got += fmt.Sprintf("%d+%d ", g.outer, g.count)
	}
	if want := "100000+65536 300000+10 200000+5 400000+1 "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if g := grants([]byte(file), "", "1"); g != nil {
		t.Errorf("a user without a name was granted %v", g)
	}
}

func TestFullMap(t *testing.T) {
	tests := []struct {
		name    string
		granted []idRange
		want    string
	}{
		{"one", []idRange{{outer: 100000, count: 65536}}, "0 1000 1\n1 100000 65536\n"},
		{"two in their order", []idRange{{outer: 200000, count: 5}, {outer: 100000, count: 5}}, "0 1000 1\n1 200000 5\n6 100000 5\n"},
		{"twice the same", []idRange{{outer: 100000, count: 5}, {outer: 100000, count: 5}}, "0 1000 1\n1 100000 5\n"},
		{"overlap", []idRange{{outer: 100000, count: 10}, {outer: 99990, count: 40}}, "0 1000 1\n1 100000 10\n11 99990 10\n21 100010 20\n"},
		{"own ID granted", []idRange{{outer: 998, count: 4}}, "0 1000 1\n1 998 2\n3 1001 1\n"},
		{"none", nil, "0 1000 1\n"},
	}
	for _, tt := range tests {
		if got := formatMap(fullMap(1000, tt.granted)); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
