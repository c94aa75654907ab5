package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "proot-distro/"

// levels is the table of layers: a package imports only packages of lower levels.
// Every package below internal/ has a line.
var levels = map[string]int{
	"platform": 0, "report": 0, "flock": 0, "seccomp": 0, "sshagent": 0, "archtest": 0,
	"host": 1, "rootfs": 1, "tinyelf": 1,
	"l2s": 2, "oci": 2, "compression": 2, "overlay": 2,
	"layer": 3, "dockerfile": 3, "guest": 3, "container": 3, "image": 3, "engine": 3,
	"engine/enginetest": 4, "engine/proot": 4, "engine/native": 4, "registry": 4, "session": 4, "transfer": 4, "build/layout": 4,
	"install": 5, "build": 5, "archive": 5, "doctor": 5,
	"ui": 6, "cli": 7,
}

// exceptions are the places where a rule would cost more than it gives.
var exceptions = map[string]string{
	"internal/cli/signals.go: os.Exit":            "a second Ctrl-C does not wait for the clean-up that the first one began",
	"internal/engine/proot/process.go: os.Stdout": "the guest gets the terminal of this process",
	"internal/engine/proot/process.go: os.Stderr": "the guest gets the terminal of this process",
}

// leaves are all that ui may import; every package may.
var leaves = []string{"platform", "report", "host"}

const (
	maxFileLines = 500
	maxFuncLines = 60
)

// source is one Go file of the project.
type source struct {
	name string // from the module's root, with slashes
	text string
	ast  *ast.File
	set  *token.FileSet
}

func (s *source) pkg() string  { return path.Dir(s.name) }
func (s *source) test() bool   { return strings.HasSuffix(s.name, "_test.go") }
func (s *source) inside() bool { return strings.HasPrefix(s.name, "internal/") }

// layer is the name in the table: "engine/proot" for internal/engine/proot.
func (s *source) layer() string { return strings.TrimPrefix(s.pkg(), "internal/") }

func (s *source) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", s.name, s.set.Position(n.Pos()).Line)
}

func (s *source) imports() []string {
	var names []string
	for _, spec := range s.ast.Imports {
		name, _ := strconv.Unquote(spec.Path.Value) // the parser has checked it
		names = append(names, name)
	}
	return names
}

func sources(t *testing.T) []*source {
	t.Helper()
	root := filepath.Join("..", "..")
	var found []*source
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); name != "." && (strings.HasPrefix(base, ".") || base == "testdata" || base == "bin" || base == "dist") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		s, err := read(file, filepath.ToSlash(name))
		found = append(found, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 20 {
		t.Fatalf("only %d files found: is this the module's root? %s", len(found), root)
	}
	return found
}

func read(file, name string) (*source, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	s := &source{name: name, text: string(text), set: token.NewFileSet()}
	s.ast, err = parser.ParseFile(s.set, name, text, parser.ParseComments|parser.SkipObjectResolution)
	return s, err
}

func TestLayers(t *testing.T) {
	for _, s := range sources(t) {
		if s.test() || !s.inside() {
			continue
		}
		level, known := levels[s.layer()]
		if !known {
			t.Errorf("%s: package %s has no level: add it to the table of this test", s.name, s.layer())
			continue
		}
		for _, name := range s.imports() {
			lower, own := strings.CutPrefix(name, module)
			if !own {
				continue
			}
			lower = strings.TrimPrefix(lower, "internal/")
			got, known := levels[lower]
			if !known || got >= level {
				t.Errorf("%s: %s (level %d) may not import %s", s.name, s.layer(), level, name)
			}
			if s.layer() == "ui" && !slices.Contains(leaves, lower) {
				t.Errorf("%s: ui knows nothing of %s", s.name, lower)
			}
		}
	}
}

// The table has no line for a package that is gone.
func TestLevelsExist(t *testing.T) {
	found := map[string]bool{}
	for _, s := range sources(t) {
		found[s.layer()] = true
	}
	for _, name := range slices.Sorted(maps.Keys(levels)) {
		if !found[name] {
			t.Errorf("package %s of the table does not exist", name)
		}
	}
}

// Domain packages speak through report and return errors; only ui writes to a
// terminal, and only a main function exits.
func TestOnlyMainExitsAndOnlyUIPrints(t *testing.T) {
	unused := maps.Clone(exceptions)
	for _, s := range sources(t) {
		if s.test() || !s.inside() {
			continue
		}
		for _, name := range s.imports() {
			if name == "log" || name == "log/slog" || name == "golang.org/x/term" && s.layer() != "ui" {
				t.Errorf("%s: %s may not import %s", s.name, s.layer(), name)
			}
		}
		for _, use := range uses(s.ast) {
			exception := s.name + ": " + use.name
			delete(unused, exception)
			switch {
			case exceptions[exception] != "":
			case slices.Contains([]string{"os.Exit", "syscall.Exit", "unix.Exit", "runtime.Goexit"}, use.name):
				t.Errorf("%s: %s outside of cmd/", s.at(use.node), use.name)
			case s.layer() == "ui":
			case use.name == "os.Stdout", use.name == "os.Stderr", strings.HasPrefix(use.name, "fmt.Print"),
				use.name == "print", use.name == "println":
				t.Errorf("%s: %s outside of ui", s.at(use.node), use.name)
			}
		}
	}
	for exception := range unused {
		t.Errorf("the exception %q is not needed any more", exception)
	}
}

// use is a mention of something that another package exports, or a call of a
// built-in function.
type use struct {
	name string
	node ast.Node
}

func uses(file *ast.File) []use {
	var found []use
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if pkg, ok := n.X.(*ast.Ident); ok {
				found = append(found, use{pkg.Name + "." + n.Sel.Name, n})
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok {
				found = append(found, use{f.Name, n})
			}
		}
		return true
	})
	return found
}

func TestFilesAndFunctionsStayReadable(t *testing.T) {
	for _, s := range sources(t) {
		if lines := strings.Count(s.text, "\n"); lines > maxFileLines {
			t.Errorf("%s has %d lines, more than %d", s.name, lines, maxFileLines)
		}
		for _, decl := range s.ast.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			lines := s.set.Position(f.End()).Line - s.set.Position(f.Pos()).Line + 1
			if lines > maxFuncLines && !s.test() {
				t.Errorf("%s: %s has %d lines, more than %d", s.at(f), f.Name.Name, lines, maxFuncLines)
			}
			if f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: init runs whether it is wanted or not: call a function instead", s.at(f))
			}
		}
	}
}

func TestPackagesAreNouns(t *testing.T) {
	vague := []string{"util", "utils", "helper", "helpers", "common", "misc", "shared", "lib"}
	for _, s := range sources(t) {
		if slices.Contains(vague, s.ast.Name.Name) || slices.Contains(vague, path.Base(s.pkg())) {
			t.Errorf("%s: %q says nothing of what is in the package", s.name, s.ast.Name.Name)
		}
	}
}

func TestPackagesAreDocumented(t *testing.T) {
	documented := map[string]bool{}
	for _, s := range sources(t) {
		documented[s.pkg()] = documented[s.pkg()] || s.ast.Doc.Text() != ""
	}
	for _, pkg := range slices.Sorted(maps.Keys(documented)) {
		if !documented[pkg] {
			t.Errorf("%s has no package comment", pkg)
		}
	}
}

func TestNothingIsPutOff(t *testing.T) {
	marker := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	for _, s := range sources(t) {
		for i, line := range strings.Split(s.text, "\n") {
			if m := marker.FindString(line); m != "" {
				t.Errorf("%s:%d: %s: do it, or open an issue", s.name, i+1, m)
			}
		}
	}
}
