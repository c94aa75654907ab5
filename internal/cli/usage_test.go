package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"proot-distro/internal/container"
	"proot-distro/internal/guest"
	"proot-distro/internal/image"
)

func TestPositionals(t *testing.T) {
	for use, want := range map[string][]positional{
		"list [OPTIONS]":                     nil,
		"login [OPTIONS] NAME [-- ARG ...]":  {{name: "NAME"}},
		"install [OPTIONS] (IMAGE | A PATH)": {{name: "IMAGE | A PATH"}},
		"kill [PID | NAME]...":               {{name: "PID | NAME", optional: true, repeated: true}},
		"remove NAME...":                     {{name: "NAME", repeated: true}},
		"rename OLD NEW":                     {{name: "OLD"}, {name: "NEW"}},
		"copy [NAME:]SRC [NAME:]DEST":        {{name: "SRC"}, {name: "DEST"}},
	} {
		got := positionals(&cobra.Command{Use: use})
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(positional{})); diff != "" {
			t.Errorf("%s: %s", use, diff)
		}
	}
}

// innerCommand is the shape of login and run.
func innerCommand(t *testing.T, args ...string) (own, inner []string, err error) {
	t.Helper()
	a := &App{Program: "pd"}
	root := &cobra.Command{Use: "pd", SilenceErrors: true, SilenceUsage: true}
	root.SetFlagErrorFunc(a.flagError)
	cmd := &cobra.Command{Use: "login [OPTIONS] CONTAINER [-- COMMAND ...]", Args: a.checkPositionals}
	user := cmd.Flags().StringP("user", "u", "", "be `USER`")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		own, inner = splitInner(cmd, args)
		if *user != "" {
			own = append(own, "user="+*user)
		}
		return nil
	}
	root.AddCommand(cmd)
	root.SetArgs(append([]string{"login"}, args...))
	return own, inner, root.Execute()
}

func TestInnerCommand(t *testing.T) {
	for _, c := range []struct{ args, own, inner []string }{
		{[]string{"deb"}, []string{"deb"}, nil},
		{[]string{"deb", "--", "ls", "-l", "--user"}, []string{"deb"}, []string{"ls", "-l", "--user"}},
		{[]string{"deb", "-u", "me", "--", "sh"}, []string{"deb", "user=me"}, []string{"sh"}},
		{[]string{"--user=me", "deb", "--", "--", "x"}, []string{"deb", "user=me"}, []string{"--", "x"}},
		{[]string{"deb", "--"}, []string{"deb"}, []string{}},
	} {
		own, inner, err := innerCommand(t, c.args...)
		if err != nil {
			t.Errorf("%q: %v", c.args, err)
		}
		if diff := cmp.Diff(c.own, own); diff != "" {
			t.Errorf("%q: %s", c.args, diff)
		}
		if diff := cmp.Diff(c.inner, inner); diff != "" {
			t.Errorf("%q: %s", c.args, diff)
		}
	}
	const hint = "A command for the container goes after '--': pd login deb -- "
	for _, c := range []struct {
		shown string
		args  []string
	}{
		{"ls", []string{"deb", "ls"}}, {"ls 'a b'", []string{"deb", "ls", "a b"}},
		{"ls …", []string{"deb", "ls", "-l"}}, {"ls …", []string{"deb", "ls", "--color"}},
	} {
		_, _, err := innerCommand(t, c.args...)
		var usage *usageError
		if !errors.As(err, &usage) || len(usage.hints) != 1 || usage.hints[0] != hint+c.shown {
			t.Errorf("%q: %+v", c.args, err)
		}
	}
	if _, _, err := innerCommand(t, "--", "ls"); err == nil || err.Error() != "pd login needs a CONTAINER" {
		t.Errorf("no container: %v", err)
	}
}

func TestTermuxOnly(t *testing.T) {
	a := &App{Program: "pd"}
	cmd := &cobra.Command{Use: "login"}
	cmd.Flags().Bool("isolated", false, "")
	a.termuxOnly(cmd, "because", "isolated")
	if !cmd.Flags().Lookup("isolated").Hidden {
		t.Error("shown on a host that is not Termux")
	}
	if err := cmd.Flags().Set("isolated", "true"); err != nil {
		t.Fatal(err)
	}
	if err := a.checkFlags(cmd); err == nil || err.Error() != "option --isolated exists on Termux only: because" {
		t.Error(err)
	}
}

func TestDeprecatedSpelling(t *testing.T) {
	cmd := &cobra.Command{Use: "install"}
	name := cmd.Flags().StringP("name", "n", "", "")
	cmd.SetGlobalNormalizationFunc(canonicalFlag)
	if err := cmd.ParseFlags([]string{"--override-alias", "work"}); err != nil || *name != "work" {
		t.Errorf("%q, %v", *name, err)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"install", "login", "list", "remove", "run", "reset", "ps"}
	for word, want := range map[string]string{
		"instal": "install", "isntall": "install", "LOGIN": "login", "lsit": "list", "remov": "remove",
		"rest": "reset", "inst": "install", "xyzzy": "", "p": "ps", "": "", "q": "",
	} {
		if got := nearest(word, names); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
	for pair, want := range map[[2]string]int{{"", "abc"}: 3, {"abc", "abc"}: 0, {"ab", "ba"}: 1, {"kitten", "sitting"}: 3} {
		if got := distance(pair[0], pair[1]); got != want {
			t.Errorf("distance%q = %d, want %d", pair, got, want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	notFound := &container.NotFoundError{Name: "x"}
	for want, errs := range map[int][]error{
		0:   {nil, GuestStatus(0), SessionError(nil)},
		1:   {errors.New("x")},
		2:   {UsageErrorf(nil, "x")},
		3:   {notFound, fmt.Errorf("login: %w", notFound), SessionError(notFound), failures{errors.New("x"), notFound}, &missingError{}},
		4:   {&container.BusyError{}, image.ErrBusy},
		42:  {GuestStatus(42)},
		125: {SessionError(errors.New("x")), fmt.Errorf("x: %w", SessionError(errors.New("x")))},
		127: {SessionError(&guest.ProgramError{Status: 127})},
		130: {errAborted},
		137: {GuestStatus(137)},
	} {
		for _, err := range errs {
			if got := exitCode(err); got != want {
				t.Errorf("%v: %d, want %d", err, got, want)
			}
		}
	}
}

func TestSignalsEndTheContext(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP} {
		signal.Notify(make(chan os.Signal, 1), sig) // whoever runs the tests may have it ignored
		a := &App{}
		ctx, stop := a.watchSignals(context.Background())
		if err := unix.Kill(os.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Second):
			t.Fatalf("%v did not end the context", sig)
		}
		if !errors.Is(context.Cause(ctx), errAborted) {
			t.Error(context.Cause(ctx))
		}
		stop()
		stop() // harmless
	}
}
