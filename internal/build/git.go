package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"

	"proot-distro/internal/build/layout"
	"proot-distro/internal/rootfs"
)

// gitSource is a git repository as ADD names it: URL.git[#REF[:SUBDIR]] or URL.git?ref=…&subdir=….
type gitSource struct {
	remote, ref, subdir, checksum string
	keepGit                       *bool
}

// scpLike matches user@host:path.
var scpLike = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:[^/].*`)
})

// isGit tells git's URLs from those of files, by their scheme or by ".git".
func isGit(word string) bool {
	if strings.HasPrefix(word, "git://") || strings.HasPrefix(word, "ssh://") || scpLike().MatchString(word) {
		return true
	}
	if !strings.HasPrefix(word, "http://") && !strings.HasPrefix(word, "https://") {
		return false
	}
	rest, _, _ := strings.Cut(word, "#")
	rest, _, _ = strings.Cut(rest, "?")
	return strings.HasSuffix(rest, ".git")
}

func parseGit(word string) (gitSource, error) {
	remote, fragment, _ := strings.Cut(word, "#")
	g := gitSource{}
	g.ref, g.subdir, _ = strings.Cut(fragment, ":")
	remote, query, _ := strings.Cut(remote, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return g, err
	}
	for key := range values {
		value := values.Get(key)
		switch key {
		case "ref", "tag", "branch", "commit":
			g.ref = value
		case "subdir":
			g.subdir = value
		case "checksum":
			g.checksum = value
		case "keep-git-dir":
			keep := value == "" || value == "1" || value == "true"
			g.keepGit = &keep
		default:
			return g, fmt.Errorf("the parameter %q is not known", key)
		}
	}
	g.remote = remote
	if strings.HasPrefix(g.remote, "-") || strings.HasPrefix(g.ref, "-") {
		return g, errors.New("a repository or ref cannot start with a dash")
	}
	return g, nil
}

// fetchGit is ADD of a repository.
func (s *stage) fetchGit(ctx context.Context, step *copyStep, word string) (*layout.Batch, error) {
	g, err := parseGit(word)
	if err != nil {
		return nil, fmt.Errorf("ADD %s: %w", word, err)
	}
	if step.keepGit != nil {
		g.keepGit = step.keepGit
	}
	if step.checksum != "" {
		g.checksum = step.checksum
	}
	dir, err := s.scratch.dir("git")
	if err != nil {
		return nil, err
	}
	root, err := g.clone(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("ADD %s: %w", word, err)
	}
	s.closers = append(s.closers, root.Close)
	src := s.newSource(layout.Source{Root: root.View(rootfs.GuestLinks), What: "repository " + g.remote, Host: true})
	b, err := src.Collect(ctx, relative(g.subdir), step.exclude)
	if err != nil {
		return nil, err
	}
	b.Into = true
	return b, nil
}

// clone checks a repository out into an empty directory, with the git of this machine.
func (g gitSource) clone(ctx context.Context, dir string) (*rootfs.FS, error) {
	program, err := exec.LookPath("git")
	if err != nil {
		return nil, errors.New("this needs git, which is not installed: install git, or clone the repository yourself")
	}
	if err := g.checkOut(ctx, program, dir); err != nil {
		return nil, err
	}
	root, err := rootfs.Open(dir, rootfs.NoLinks)
	if err == nil && (g.keepGit == nil || !*g.keepGit) {
		if err = root.RemoveAll(".git", rootfs.RemoveOptions{}); err != nil {
			root.Close()
		}
	}
	return root, err
}

func (g gitSource) checkOut(ctx context.Context, program, dir string) error {
	ref := g.ref
	if ref == "" {
		ref = "HEAD"
	}
	for _, args := range [][]string{
		{"init", "--quiet"},
		{"remote", "add", "origin", g.remote},
		{"fetch", "--quiet", "--depth=1", "--", "origin", ref},
		{"checkout", "--quiet", "FETCH_HEAD"},
		{"submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"},
	} {
		if _, err := runGit(ctx, program, dir, args...); err != nil {
			return err
		}
	}
	if g.checksum == "" {
		return nil
	}
	commit, err := runGit(ctx, program, dir, "rev-parse", "HEAD")
	if err == nil && !strings.HasPrefix(commit, g.checksum) {
		err = fmt.Errorf("the commit is %s, not %s as --checksum asks for", commit, g.checksum)
	}
	return err
}

// runGit never asks for a password: nobody may be there to answer.
func runGit(ctx context.Context, program, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = append(gitEnviron(), "GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if why := complaint(errOut.String()); why != "" {
			err = errors.New(why)
		}
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSpace(out.String()), nil
}

// gitEnviron leaves out what ties git to a repository other than the one in its working directory (git rev-parse
// --local-env-vars): hooks run with GIT_DIR, and a build in one must not work in the person's repository.
func gitEnviron() []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		switch name {
		case "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY",
			"GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE", "GIT_REPLACE_REF_BASE":
			return true
		}
		return false
	})
}

// complaint is what git died of: the first such line, which others follow from, or the last line.
func complaint(errOut string) string {
	lines := strings.Split(strings.TrimSpace(errOut), "\n")
	for _, line := range lines {
		if why, fatal := strings.CutPrefix(line, "fatal: "); fatal {
			return why
		}
	}
	return lines[len(lines)-1]
}
