// Package stories runs test/stories/*.txtar: sessions of a person with the real program, the real proot and a
// real registry.
//
// Each story has a HOME of its own and these variables:
//
//	REGISTRY  host:port of a registry with all images of package fixtures; see the command `registry`
//	PACKAGES  host:port of a web server with fixtures.Packages
//
// and, beside testscript's commands, those in the map in [params]. As root the stories run twice, the second time as an
// ordinary user; the condition [root] tells the two apart. test/README.md tells how to write one.
package stories

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"proot-distro/test/fixtures"
)

// What TestMain prepares reaches the tests, and the second run, through these variables.
const (
	envBin      = "PD_STORIES_BIN"      // directory of proot-distro and pd
	envPlain    = "PD_STORIES_REGISTRY" // address of a registry
	envAuth     = "PD_STORIES_AUTH"     // address of one that asks for a password
	envPackages = "PD_STORIES_PACKAGES" // address of a web server
	envStories  = "PD_STORIES_DIR"      // a copy of this directory that every user can read
)

func TestMain(m *testing.M) {
	if name := os.Getenv(envFilter); name != "" {
		fmt.Fprintln(os.Stderr, becomeFiltered(filters[name](), os.Args[1:]))
		os.Exit(99)
	}
	flag.Parse()
	if os.Getenv(envBin) != "" {
		os.Exit(m.Run())
	}
	code, err := runAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "stories:", err)
		code = 1
	}
	os.Exit(code)
}

// runAll runs the tests as whoever started them and, when that is root, as an ordinary user too.
func runAll(m *testing.M) (code int, err error) {
	fixtures.ObeySignals()
	work, err := os.MkdirTemp(fixtures.WorkDir(), "pd-stories-")
	if err != nil {
		return 1, err
	}
	if flag.Lookup("testwork").Value.String() == "true" {
		fmt.Println("Kept:", work)
	} else {
		defer os.RemoveAll(work)
	}
	tmp := filepath.Join(work, "tmp")
	if err := errors.Join(os.Chmod(work, 0o755), os.Mkdir(tmp, 0o700), os.Setenv("TMPDIR", tmp)); err != nil {
		return 1, err
	}
	stop, err := prepare(work)
	defer stop()
	if err != nil {
		return 1, err
	}
	code = m.Run()
	if os.Getuid() == 0 && code == 0 {
		fmt.Println("The same stories as an ordinary user:")
		err = runAsUser(work)
	}
	return code, err
}

// prepare starts the registries, builds the program and copies the stories to where every user can read them.
func prepare(work string) (stop func(), err error) {
	stop = func() {}
	storage, err := fixtures.Images()
	if err != nil {
		return stop, err
	}
	plain, err := fixtures.Serve(storage, fixtures.RegistryOptions{})
	if err != nil {
		return stop, err
	}
	stop = func() { _ = plain.Close() } // the processes end with this one anyway
	auth, err := fixtures.Serve(storage, fixtures.RegistryOptions{Auth: true})
	if err != nil {
		return stop, err
	}
	stop = func() { _ = errors.Join(plain.Close(), auth.Close()) }
	packages, err := servePackages()
	if err != nil {
		return stop, err
	}
	bin, dir := filepath.Join(work, "bin"), filepath.Join(work, "stories")
	build := exec.Command("go", "build", "-o", filepath.Join(bin, "proot-distro"), "proot-distro/cmd/proot-distro")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as releases are built
	if out, err := build.CombinedOutput(); err != nil {
		return stop, fmt.Errorf("build the program: %w\n%s", err, out)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		return stop, err
	}
	err = errors.Join(
		os.Symlink("proot-distro", filepath.Join(bin, "pd")),
		os.CopyFS(dir, os.DirFS(".")),
		os.WriteFile(filepath.Join(dir, "README.md"), readme, 0o644),
		os.Setenv(envBin, bin), os.Setenv(envStories, dir),
		os.Setenv(envPlain, plain.Addr), os.Setenv(envAuth, auth.Addr), os.Setenv(envPackages, packages))
	return stop, err
}

// servePackages serves fixtures.Packages until this process ends.
func servePackages() (addr string, err error) {
	packages, err := fixtures.Packages()
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: packages, ErrorLog: silent}
	go func() { _ = server.Serve(l) }()
	return l.Addr().String(), nil
}

// runAsUser runs this test binary again without privileges.
func runAsUser(work string) error {
	binary, err := os.ReadFile(os.Args[0])
	if err != nil {
		return err
	}
	copied, home := filepath.Join(work, "stories.test"), filepath.Join(work, "home")
	args, err := fixtures.AsUser(work)
	if err := errors.Join(err, os.WriteFile(copied, binary, 0o755), os.Mkdir(home, 0o700),
		os.Chown(home, fixtures.OrdinaryUser, fixtures.OrdinaryUser)); err != nil {
		return err
	}
	args = append(args, copied)
	for _, a := range os.Args[1:] {
		if !strings.HasPrefix(a, "-test.testlogfile") { // in a directory of root's
			args = append(args, a)
		}
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = os.Getenv(envStories)
	cmd.Env = append(os.Environ(), "HOME="+home, "TMPDIR="+home, "XDG_CACHE_HOME=", "XDG_DATA_HOME=")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("as an ordinary user: %w", err)
	}
	return nil
}

func TestStories(t *testing.T) {
	testscript.Run(t, params(os.Getenv(envStories)))
}

// TestProot tells some of the stories again, of sessions under proot.
func TestProot(t *testing.T) {
	p := params("")
	for _, story := range []string{"login", "run", "sessions", "build"} {
		p.Files = append(p.Files, filepath.Join(os.Getenv(envStories), story+".txtar"))
	}
	p.Setup = func(env *testscript.Env) error {
		env.Setenv("PD_ENGINE", "proot")
		return setup(env)
	}
	testscript.Run(t, p)
}

func params(dir string) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		Setup:               setup,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Getuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"android":      cmdAndroid,
			"denied":       cmdDenied,
			"exits":        cmdExits,
			"hub":          cmdHub,
			"phone":        cmdPhone,
			"registry":     cmdRegistry,
			"serve":        cmdServe,
			"sink":         cmdSink,
			"survives":     cmdSurvives,
			"terminal":     cmdTerminal,
			"tree-compare": cmdTreeCompare,
			"until":        cmdUntil,
		},
	}
}

// setup gives a story a HOME, the program in its PATH and a registry.
func setup(env *testscript.Env) error {
	home := filepath.Join(env.WorkDir, "home")
	if err := os.Mkdir(home, 0o755); err != nil {
		return err
	}
	env.Setenv("HOME", home)
	env.Setenv("PATH", os.Getenv(envBin)+":/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
	env.Setenv("BIN", os.Getenv(envBin))
	env.Setenv("LANG", "C.UTF-8")
	env.Setenv("CONTAINERS", filepath.Join(home, ".local/share/proot-distro/containers"))
	env.Setenv("CACHE", filepath.Join(home, ".cache/proot-distro"))
	reg, err := newRegistry(os.Getenv(envPlain), os.Getenv(envAuth))
	if err != nil {
		return err
	}
	env.Defer(reg.stop)
	env.Values[registryKey{}] = reg
	env.Setenv("REGISTRY", reg.addr)
	env.Setenv("PACKAGES", os.Getenv(envPackages))
	return nil
}
