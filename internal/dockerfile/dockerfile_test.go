package dockerfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"proot-distro/internal/platform"
)

func parse(t testing.TB, text string, args map[string]string) *File {
	t.Helper()
	f, err := Parse([]byte(text), Options{Name: "Dockerfile", BuildArgs: args, Build: platform.X86_64, Target: platform.ARM})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestStages(t *testing.T) {
	f := parse(t, `ARG BASE=debian TAG
FROM ${BASE}:${TAG:-12} AS One
FROM one
FROM --platform=$BUILDPLATFORM busybox AS two
FROM ONE AS three
`, map[string]string{"TAG": "11"})
	type stage struct {
		Name, Base, From, Platform string
		Named                      bool
	}
	var got []stage
	for _, s := range f.Stages {
		from := ""
		if s.From != nil {
			from = s.From.Name
		}
		got = append(got, stage{s.Name, s.Base, from, s.Platform, s.Named})
	}
	want := []stage{
		{"one", "debian:11", "", "", true},
		{"stage-1", "one", "one", "", false},
		{"two", "busybox", "", "linux/amd64", true},
		{"three", "ONE", "one", "", true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if f.Target != f.Stages[3] {
		t.Errorf("the target is %s", f.Target.Name)
	}
	for name, want := range map[string]*Stage{"TWO": f.Stages[2], "1": f.Stages[1], "busybox": nil} {
		if got, err := f.Stage(name); err != nil || got != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for _, name := range []string{"4", "-1"} {
		if s, err := f.Stage(name); err == nil {
			t.Errorf("%s: %v", name, s)
		}
	}
}

// scope runs the instructions of the last stage and gives the environment of a RUN at its end.
func scope(t *testing.T, text string, args map[string]string) []string {
	t.Helper()
	f := parse(t, text, args)
	s := f.NewScope([]string{"PATH=/bin"})
	for _, c := range f.Target.Commands {
		if err := s.Expand(c); err != nil {
			t.Fatal(err)
		}
		switch c := c.(type) {
		case *instructions.ArgCommand:
			if _, err := s.Declare(c); err != nil {
				t.Fatal(err)
			}
		case *instructions.EnvCommand:
			for _, kv := range c.Env {
				s.Set(kv.Key, kv.Value)
			}
		}
	}
	return s.Environ()
}

func TestScopesOfArgAndEnv(t *testing.T) {
	tests := []struct {
		name, text string
		args       map[string]string
		want       []string
	}{
		{"a global ARG is not in scope", "ARG A=1\nFROM x\nENV E=$A.", nil, []string{"E=."}},
		{"until it is declared", "ARG A=1\nFROM x\nARG A\nENV E=$A", nil, []string{"A=1", "E=1"}},
		{"the stage's default wins over the global one", "ARG A=1\nFROM x\nARG A=2", nil, []string{"A=2"}},
		{"--build-arg wins over both", "ARG A=1\nFROM x\nARG A=2", map[string]string{"A": "3"}, []string{"A=3"}},
		{"an ARG without a value is not set", "FROM x\nARG A\nENV E=${A-unset}", nil, []string{"E=unset"}},
		{"an empty --build-arg is a value", "FROM x\nARG A=1", map[string]string{"A": ""}, []string{"A="}},
		{"ENV after ARG wins", "FROM x\nARG A=1\nENV A=2", map[string]string{"A": "3"}, []string{"A=2"}},
		{"undeclared --build-arg", "FROM x\nENV E=$A.", map[string]string{"A": "3"}, []string{"E=."}},
		{"several in one", "FROM x\nARG A=1 B=2 C", map[string]string{"C": "3"}, []string{"A=1", "B=2", "C=3"}},
		{"one from another", "FROM x\nARG A=1\nARG B=${A}2", nil, []string{"A=1", "B=12"}},
		{"ENV sees the values before it", "FROM x\nENV A=1\nENV A=2 B=$A", nil, []string{"A=2", "B=1"}},
		{"platforms", "FROM x\nARG TARGETPLATFORM\nARG TARGETVARIANT\nARG BUILDARCH", nil,
			[]string{"TARGETPLATFORM=linux/arm/v7", "TARGETVARIANT=v7", "BUILDARCH=amd64"}},
		{"platforms can be overridden", "FROM x\nARG TARGETARCH", map[string]string{"TARGETARCH": "z80"}, []string{"TARGETARCH=z80"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			want := append([]string{"PATH=/bin"}, test.want...)
			if diff := cmp.Diff(want, scope(t, test.text+"\n", test.args)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestChildStagesInheritVariables(t *testing.T) {
	f := parse(t, "FROM x\nARG A=1\n", nil)
	s := f.NewScope(nil)
	if _, err := s.Declare(f.Target.Commands[0].(*instructions.ArgCommand)); err != nil {
		t.Fatal(err)
	}
	child := s.Child()
	child.Set("B", "2")
	if diff := cmp.Diff([]string{"A=1", "B=2"}, child.Environ()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"A=1"}, s.Environ()); diff != "" {
		t.Error("the child's variables reached its parent: ", diff)
	}
	if diff := cmp.Diff([]string{"A=1"}, child.Args()); diff != "" {
		t.Error(diff)
	}
}

func TestProxiesComeInBothSpellings(t *testing.T) {
	f := parse(t, "FROM x\n", map[string]string{"http_proxy": "p", "OTHER": "x"})
	if diff := cmp.Diff([]string{"HTTP_PROXY=p", "http_proxy=p"}, f.Proxies()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"OTHER"}, f.UnusedArgs()); diff != "" {
		t.Error(diff)
	}
}

func TestErrorsShowTheLine(t *testing.T) {
	_, err := Parse([]byte("FROM x\r\nRUN a \\\r\n  b\r\nCOPPY x\r\nRUN c\r\n"), Options{Name: "my/Dockerfile"})
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%T: %v", err, err)
	}
	if e.Error() != "my/Dockerfile, line 4: unknown instruction: COPPY (did you mean COPY?)" {
		t.Error(e)
	}
	want := "   3     b\n   4 > COPPY x\n   5   RUN c"
	if got := strings.Join(e.Excerpt(), "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestLongExcerptsAreCut(t *testing.T) {
	text := "FROM x\nCOPY <<EOF /x\n" + strings.Repeat("line\n", 50)
	_, err := Parse([]byte(text), Options{Name: "Dockerfile"})
	var e *Error
	if !errors.As(err, &e) || len(e.Excerpt()) > 14 {
		t.Errorf("%v: %q", err, e.Excerpt())
	}
}

func TestIgnore(t *testing.T) {
	ignore, err := ParseIgnore(".dockerignore", []byte("# c\n/rooted\n*.log\n**/deep\ndir\n!dir/kept\na/*/c\n"))
	if err != nil {
		t.Fatal(err)
	}
	match := func(name string) bool {
		var v Verdict
		for i := range name + "/" {
			if i == len(name) || name[i] == '/' {
				if v, err = ignore.Match(name[:i], v); err != nil {
					t.Fatal(err)
				}
			}
		}
		return v.Ignored
	}
	for name, want := range map[string]bool{
		"rooted": true, "x/rooted": false, "a.log": true, "x/a.log": false, "x/y/deep": true, "deep/z": true,
		"dir": true, "dir/x": true, "dir/kept": false, "dir/kept/more": false, "a/b/c": true, "a/c": false,
	} {
		if match(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
	if ignore.Prune("dir") || !ignore.Prune("x/deep") {
		t.Error("what has to be looked into, or not")
	}
}

func TestPorts(t *testing.T) {
	f := parse(t, "FROM x\nEXPOSE 80\n", nil)
	c := f.Target.Commands[0].(*instructions.ExposeCommand)
	for word, want := range map[string]string{
		"80": "80/tcp", "53/udp": "53/udp", "1-3/sctp": "1/sctp 2/sctp 3/sctp", "8080:80": "80/tcp", "127.0.0.1:1:2": "2/tcp",
		"[::1]:1:2": "2/tcp", "0": "0/tcp",
	} {
		c.Ports = []string{word}
		got, err := f.Ports(c)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v, %v", word, got, err)
		}
	}
	for _, word := range []string{"", "x", "65536", "3-1", "80/quic", "host:1:2", "-1", "1-", "80/"} {
		c.Ports = []string{word}
		if got, err := f.Ports(c); err == nil {
			t.Errorf("%s: %v", word, got)
		}
	}
}

// corpus gives the Dockerfiles of package build's tests as seeds.
func corpus(f *testing.F) {
	files, err := filepath.Glob("../build/testdata/corpus/*.txtar")
	if err != nil || len(files) == 0 {
		f.Fatal("no corpus: ", err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		if _, text, ok := strings.Cut(string(data), "-- Dockerfile --\n"); ok {
			text, _, _ = strings.Cut(text, "\n-- ")
			f.Add(text)
		}
	}
}

// Memory and stack stay small, whatever the variables.
func TestVariablesHaveABudget(t *testing.T) {
	doubling := "ARG A0=" + strings.Repeat("x", 50) + "\n"
	for i := range 40 {
		doubling += fmt.Sprintf("ARG A%d=$A%d$A%[2]d\n", i+1, i)
	}
	long := strings.Repeat("x", 50_000)
	for _, test := range []struct{ text, want string }{
		{doubling + "FROM scratch\n", "D, line 20: its variables would make the Dockerfile larger than 32 MiB"},
		{"FROM scratch\nARG A=" + long + "\nENV B=${A//x/$A}\n", "D, line 3: its variables would make the Dockerfile larger than 32 MiB"},
		{"FROM scratch\nARG A=" + long + "\nEXPOSE " + strings.Repeat("$A", 3000) + "\n", "D, line 3: its variables would make the Dockerfile larger than 32 MiB"},
		{"FROM scratch\nENV B=" + strings.Repeat("${A:-", 10_000) + "\n", "D, line 2: its variables are nested too deeply"},
		{"ARG A=1.2\nFROM scratch\nARG A\nENV B=${A//./_}${A/./${A:-x}}\nENV C=" + long + "\n", "<nil>"},
	} {
		if got := fmt.Sprint(expandAll(test.text)); got != test.want {
			t.Errorf("%.60q…: %s, want %s", test.text, got, test.want)
		}
	}
}

// expandAll goes through the only stage of a Dockerfile as a build does.
func expandAll(text string) error {
	file, err := Parse([]byte(text), Options{Name: "D", Build: platform.X86_64, Target: platform.X86_64})
	if err != nil {
		return err
	}
	s := file.NewScope(nil)
	for _, c := range file.Stages[0].Commands {
		if err := s.Expand(c); err != nil {
			return err
		}
		switch c := c.(type) {
		case *instructions.ArgCommand:
			_, err = s.Declare(c)
		case *instructions.EnvCommand:
			for _, kv := range c.Env {
				s.Set(kv.Key, kv.Value)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// No text makes the front end panic, and a mistake is on a line of the text.
func FuzzDockerfile(f *testing.F) {
	corpus(f)
	f.Fuzz(func(t *testing.T, text string) {
		args := map[string]string{"A": "1", "HTTP_PROXY": "x"}
		file, err := Parse([]byte(text), Options{Name: "D", BuildArgs: args, Build: platform.X86_64, Target: platform.AArch64})
		if err != nil {
			checkError(t, err)
			return
		}
		for _, stage := range file.Stages {
			s := file.NewScope([]string{"PATH=/bin", "HOME"})
			for _, c := range stage.Commands {
				if err := s.Expand(c); err != nil {
					checkError(t, err)
					continue
				}
				s.Display(strings.ToUpper(c.Name()) + " " + text)
				switch c := c.(type) {
				case *instructions.ArgCommand:
					_, err = s.Declare(c)
				case *instructions.ExposeCommand:
					_, err = file.Ports(c)
				case *instructions.OnbuildCommand:
					_, err = file.Triggers(stage, []string{c.Expression})
				case *instructions.EnvCommand:
					file.LintPairs(c, c.Env)
				}
				if err != nil {
					checkError(t, err)
				}
			}
		}
	})
}

func checkError(t *testing.T, err error) {
	var e *Error
	if errors.As(err, &e) && (e.Line < 1 || e.End < e.Line || e.End > len(e.Lines) || len(e.Excerpt()) == 0) {
		t.Errorf("%v: lines %d to %d of %d", err, e.Line, e.End, len(e.Lines))
	}
}

// No pattern panics, and what is not ignored is never pruned with its directory.
func FuzzIgnore(f *testing.F) {
	f.Add("*.log\n!keep.log\n# c\n", "dir/keep.log")
	f.Add("dir\n!dir/**/x", "dir/a/x")
	f.Add("**/a/[b-d]?\\*", "x/a/c")
	f.Add("/\n!\n[\n\\", "a")
	f.Fuzz(func(t *testing.T, patterns, name string) {
		ignore, err := ParseIgnore("i", []byte(patterns))
		if err != nil {
			return
		}
		parts := strings.FieldsFunc(name, func(r rune) bool { return r == '/' || r == 0 })
		if slices.Contains(parts, "..") || slices.Contains(parts, ".") {
			return
		}
		var v Verdict
		pruned := ""
		for i := range parts {
			at := strings.Join(parts[:i+1], "/")
			if v, err = ignore.Match(at, v); err != nil {
				return
			}
			if pruned != "" && !v.Ignored && ignore != nil && !strings.ContainsAny(patterns, "\\\r") {
				t.Errorf("%q is not ignored, but in %q, which was pruned, by %q", at, pruned, patterns)
			}
			if v.Ignored && ignore.Prune(at) && pruned == "" {
				pruned = at
			}
		}
	})
}
