package stories

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// cmdTreeCompare compares two directories entry by entry: names, types, modes, times, contents, link targets, user
// attributes.
//
//	tree-compare DIR1 DIR2 [IGNORED-PATH...]
//
// Ignored paths are relative; their directories' times are ignored too, and so is the root's. Devices and FIFOs are left out, because
// rootless tools disagree about them.
func cmdTreeCompare(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: tree-compare DIR1 DIR2 [IGNORED-PATH...]")
	}
	one, err := describeTree(ts.MkAbs(args[0]), args[2:])
	ts.Check(err)
	two, err := describeTree(ts.MkAbs(args[1]), args[2:])
	ts.Check(err)
	if len(one) < 2 {
		ts.Fatalf("%s is empty", args[0])
	}
	if diff := cmp.Diff(one, two); diff != "" {
		ts.Fatalf("%s (-) and %s (+) differ:\n%s", args[0], args[1], diff)
	}
	fmt.Fprintf(ts.Stdout(), "%d entries are the same\n", len(one))
}

// describeTree maps each path to all that is compared.
func describeTree(root string, ignored []string) (map[string]string, error) {
	tree := map[string]string{}
	var walk func(rel string) error
	walk = func(rel string) error {
		path := filepath.Join(root, rel)
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		if slices.Contains(ignored, rel) || info.Mode()&(fs.ModeDevice|fs.ModeNamedPipe|fs.ModeSocket) != 0 {
			return nil
		}
		reopen, err := allowReading(path, info)
		if err != nil {
			return err
		}
		defer reopen()
		line, err := describeEntry(path, info)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(ignored, func(i string) bool { return filepath.Dir(i) == rel }) && rel != "." {
			line += info.ModTime().UTC().Format(" 2006-01-02T15:04:05.000000000")
		}
		tree[rel] = line
		if !info.IsDir() {
			return nil
		}
		children, err := os.ReadDir(path)
		for _, c := range children {
			if err := walk(filepath.Join(rel, c.Name())); err != nil {
				return err
			}
		}
		return err
	}
	return tree, walk(".")
}

// allowReading opens what an ordinary user closed to himself, for a while.
func allowReading(path string, info fs.FileInfo) (undo func(), err error) {
	need := fs.FileMode(0o400)
	if info.IsDir() {
		need = 0o500
	}
	if info.Mode()&fs.ModeSymlink != 0 || info.Mode()&need == need {
		return func() {}, nil
	}
	return func() { _ = os.Chmod(path, info.Mode()) }, os.Chmod(path, info.Mode()|need)
}

func describeEntry(path string, info fs.FileInfo) (string, error) {
	line := info.Mode().String()
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		return line + " -> " + target, err
	case info.Mode().IsRegular():
		data, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		line += fmt.Sprintf(" %d %x", len(data), sha256.Sum256(data))
	}
	attrs, err := userAttributes(path)
	return line + attrs, err
}

func userAttributes(path string) (string, error) {
	buf := make([]byte, 4096)
	n, err := unix.Llistxattr(path, buf)
	if err == unix.ENOTSUP || err == unix.EACCES {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("list attributes of %s: %w", path, err)
	}
	var attrs strings.Builder
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if !strings.HasPrefix(name, "user.") || name == "user.rootlesscontainers" {
			continue // the second is umoci's own note of owners
		}
		value := make([]byte, 4096)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return "", fmt.Errorf("read attribute %s of %s: %w", name, path, err)
		}
		fmt.Fprintf(&attrs, " %s=%q", name, value[:n])
	}
	return attrs.String(), nil
}
