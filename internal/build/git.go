package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
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
	environ                       []string // for git, beside the caller's
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
	if g.environ, err = s.strangersGit(); err != nil {
		return nil, err
	}
	root, err := g.clone(ctx, dir)
	if err != nil && g.overSSH() && s.req.SSH[defaultSSH] == nil {
		return nil, fmt.Errorf("ADD %s: %w (git has only the keys that --ssh %s lends)", word, err, defaultSSH)
	}
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

func (g gitSource) overSSH() bool {
	return strings.HasPrefix(g.remote, "ssh://") || scpLike().MatchString(g.remote)
}

// strangersGit is the environment of a git that works for a Dockerfile. That may be a stranger's, and what
// it fetches goes where it likes: it gets at no repository by the person's passwords and keys, but for
// those of --ssh.
func (s *stage) strangersGit() ([]string, error) {
	home, err := s.scratch.dir("home")
	if err != nil {
		return nil, err
	}
	socket := "none"
	if source := s.req.SSH[defaultSSH]; source != nil {
		listener, err := listenIn(home, agentSocket)
		if err != nil {
			return nil, fmt.Errorf("--ssh %s: %w", defaultSSH, err)
		}
		s.closers = append(s.closers, listener.Close)
		go source.Serve(listener)
		socket = "SSH_AUTH_SOCK" // which ssh looks up
	}
	return []string{
		"HOME=" + home, "XDG_CONFIG_HOME=" + home, "GIT_CONFIG_GLOBAL=" + os.DevNull,
		"GIT_CONFIG_PARAMETERS='credential.helper='", "GIT_CONFIG_COUNT=0", "GIT_ASKPASS=", "SSH_ASKPASS=",
		"SSH_AUTH_SOCK=" + filepath.Join(home, agentSocket),
		"GIT_SSH_COMMAND=ssh -F none -o BatchMode=yes -o IdentityFile=none -o IdentityAgent=" + socket,
	}, nil
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
		if _, err := g.run(ctx, program, dir, args...); err != nil {
			return err
		}
	}
	if g.checksum == "" {
		return nil
	}
	commit, err := g.run(ctx, program, dir, "rev-parse", "HEAD")
	if err == nil && !strings.HasPrefix(commit, g.checksum) {
		err = fmt.Errorf("the commit is %s, not %s as --checksum asks for", commit, g.checksum)
	}
	return err
}

// run runs git, which never asks for a password: nobody may be there to answer.
func (g gitSource) run(ctx context.Context, program, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = slices.Concat(gitEnviron(), []string{"GIT_TERMINAL_PROMPT=0", "LC_ALL=C"}, g.environ)
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
