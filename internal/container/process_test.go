package container

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/internal/host"
	"proot-distro/internal/rootfs"
)

// actEnv makes the test binary play another process of the program instead of
// running tests.
const actEnv = "CONTAINER_TEST_ACT"

func TestMain(m *testing.M) {
	if act := os.Getenv(actEnv); act != "" {
		s := NewStore(host.Dirs{Runtime: os.Args[1]})
		if err := acts[act](s, os.Args[2:]); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var acts = map[string]func(s *Store, args []string) error{
	"login":    actLogin,
	"remove":   actRemove,
	"install":  actInstall,
	"orphan":   actOrphan,
	"wait":     func(*Store, []string) error { return ready() },
	"session":  actSession,
	"cycle":    actCycle,
	"recreate": actRecreate,
	"rename":   actRename,
}

// ready tells the test that the process is where it should be, and stays there
// until the test lets go.
func ready() error {
	fmt.Println("ready", os.Getpid())
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func actLogin(s *Store, args []string) error {
	c, err := s.Open(args[0], Shared, "login")
	if err != nil {
		return err
	}
	defer c.Close()
	return ready()
}

func actRemove(s *Store, args []string) error {
	c, err := s.Open(args[0], Exclusive, "remove")
	if err != nil {
		return err
	}
	defer c.Close()
	return ready()
}

func actInstall(s *Store, args []string) error {
	c, err := s.Create(args[0], "install")
	if err != nil {
		return err
	}
	defer c.Close()
	return ready()
}

// actOrphan leaves a child behind that holds the lock and the session, as the
// background process of a guest does.
func actOrphan(s *Store, args []string) error {
	c, err := s.Open(args[0], Shared, "login")
	if err != nil {
		return err
	}
	session, err := s.Register(Session{PID: os.Getpid(), Container: args[0]})
	if err != nil {
		return err
	}
	cmd := exec.Command(os.Args[0], os.Args[1])
	cmd.Env = append(os.Environ(), actEnv+"=wait")
	cmd.Stdin, cmd.Stdout = os.Stdin, os.Stdout
	cmd.ExtraFiles = []*os.File{c.LockFile(), session}
	return cmd.Start()
}

// actSession becomes another program, as login becomes proot.
func actSession(s *Store, args []string) error {
	c, err := s.Open(args[0], Shared, "login")
	if err != nil {
		return err
	}
	session, err := s.Register(Session{
		PID: os.Getpid(), Container: args[0], Command: []string{"bash", "-l"}, Engine: "proot", Arch: "x86_64",
		User: "root", Started: time.Unix(1_700_000_000, 0).UTC(),
	})
	if err != nil {
		return err
	}
	for _, f := range []*os.File{c.LockFile(), session} {
		if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0); err != nil {
			return err
		}
	}
	if err := os.Setenv(actEnv, "wait"); err != nil {
		return err
	}
	return syscall.Exec(os.Args[0], os.Args[:2], os.Environ())
}

const generationFiles = 8

// writeGeneration fills a rootfs with files that all hold the same number.
func writeGeneration(c *Container, generation int) error {
	for i := range generationFiles {
		dir := filepath.Join(c.RootfsPath(), "d"+strconv.Itoa(i%3))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), []byte(strconv.Itoa(generation)), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// readGeneration reads the number and checks that every file is there and has it.
func readGeneration(c *Container) (int, error) {
	generation := -1
	for i := range generationFiles {
		data, err := os.ReadFile(filepath.Join(c.RootfsPath(), "d"+strconv.Itoa(i%3), strconv.Itoa(i)))
		if err != nil {
			return 0, err
		}
		n, err := strconv.Atoi(string(data))
		if err != nil || generation >= 0 && n != generation {
			return 0, fmt.Errorf("file %d holds %q, the ones before it %d", i, data, generation)
		}
		generation = n
	}
	return generation, nil
}

// actCycle installs and removes until it is killed, and tells each round.
func actCycle(s *Store, args []string) error {
	for generation := 0; ; generation++ {
		fmt.Println("ready", os.Getpid())
		if err := s.Sweep(); err != nil {
			return err
		}
		c, err := s.Create(args[0], "install")
		if err != nil {
			return err
		}
		if err := writeGeneration(c, generation); err != nil {
			return err
		}
		if err := c.Commit(); err != nil {
			return err
		}
		if err := c.Remove(rootfs.RemoveOptions{}); err != nil {
			return err
		}
		if err := c.Close(); err != nil {
			return err
		}
	}
}

// actRecreate resets again and again until it is killed, and tells each round.
func actRecreate(s *Store, args []string) error {
	for {
		fmt.Println("ready", os.Getpid())
		c, err := s.Open(args[0], Exclusive, "reset")
		if err != nil {
			return err
		}
		generation, err := readGeneration(c)
		if err != nil {
			return err
		}
		draft, err := c.Recreate()
		if err != nil {
			return err
		}
		if err := writeGeneration(draft, generation+1); err != nil {
			return err
		}
		if err := draft.Commit(); err != nil {
			return err
		}
		if err := draft.Close(); err != nil {
			return err
		}
		if err := c.Close(); err != nil {
			return err
		}
	}
}

// actRename renames back and forth until it is killed, and tells each round.
func actRename(s *Store, args []string) error {
	for {
		fmt.Println("ready", os.Getpid())
		if err := s.Rename(args[0], "other", "rename"); err != nil {
			return err
		}
		if err := s.Rename("other", args[0], "rename"); err != nil {
			return err
		}
	}
}

// process is another process of the program.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Reader
	pid   int // of the process that said "ready"
}

// start runs an act and waits until it is ready.
func start(t *testing.T, dirs host.Dirs, act string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{dirs.Runtime}, args...)...)
	cmd.Env = append(os.Environ(), actEnv+"="+act)
	// Not StdinPipe and StdoutPipe: Wait would close them under a process left behind.
	in, stdin, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	out.Close()
	p := &process{t: t, cmd: cmd, stdin: stdin, out: bufio.NewReader(r)}
	t.Cleanup(func() { p.kill(); r.Close() })
	line, err := p.out.ReadString('\n')
	if _, scanErr := fmt.Sscanf(line, "ready %d", &p.pid); scanErr != nil {
		t.Fatalf("%s %v: %q, %v", act, args, line, err)
	}
	return p
}

// release lets the process end and waits until every copy of its output is closed.
func (p *process) release() {
	p.t.Helper()
	p.stdin.Close()
	if rest, err := io.ReadAll(p.out); err != nil || len(rest) > 0 {
		p.t.Errorf("it ended with %q, %v", rest, err)
	}
	_ = p.cmd.Wait()
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.stdin.Close()
}
