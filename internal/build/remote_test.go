package build

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const sumOfContent = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73" // of "content"

func TestAddFetchesURLs(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/file.txt", "/":
			w.Header().Set("Last-Modified", "Fri, 01 Jan 2021 00:00:00 GMT")
			fmt.Fprint(w, "content")
		case "/broken":
			if r.Header.Get("Range") != "" {
				w.Header().Set("Content-Range", "bytes 4-6/7")
				w.WriteHeader(http.StatusPartialContent)
				fmt.Fprint(w, "ent")
				return
			}
			w.Header().Set("ETag", `"1"`)
			w.Header().Set("Content-Length", "7")
			fmt.Fprint(w, "cont")
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	tests := []struct{ name, line, files, err string }{
		{"into a directory", "ADD URL/file.txt /d/", "/d 0755 0:0 dir\n/d/file.txt 0600 0:0 \"content\"\n", ""},
		{"under a name", "ADD --chmod=644 --chown=3:4 URL/file.txt?x=1 /name", "/name 0644 3:4 \"content\"\n", ""},
		{"with its checksum", "ADD --checksum=sha256:" + sumOfContent + " URL/file.txt /n", "/n 0600 0:0 \"content\"\n", ""},
		{"with another checksum", "ADD --checksum=sha256:" + strings.Repeat("0", 64) + " URL/file.txt /n", "",
			"URL/file.txt is not what --checksum asks for: its checksum is sha256:" + sumOfContent},
		{"with a bad checksum", "ADD --checksum=md5:1 URL/file.txt /n", "",
			"ADD --checksum=md5:1: it must be sha256: and 64 lower-case hex digits"},
		{"without a name", "ADD URL/ /d/", "", "ADD URL/: its end is no file name: write the destination with one"},
		{"root under a name", "ADD URL/ /d", "/d 0600 0:0 \"content\"\n", ""},
		{"missing", "ADD URL/nope /d", "", "URL/nope does not exist"},
		{"broken off", "ADD --checksum=sha256:" + sumOfContent + " URL/broken /d", "/d 0600 0:0 \"content\"\n", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			b.write("Dockerfile", "FROM scratch\n"+strings.ReplaceAll(test.line, "URL", server.URL)+"\n")
			results, err := b.Build(context.Background(), b.request(""))
			if test.err != "" {
				want := "Dockerfile, line 2: " + strings.ReplaceAll(test.err, "URL", server.URL)
				if err == nil || err.Error() != want {
					t.Errorf("got  %v\nwant %s", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.files, b.listFiles(results[0])); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAddTellsACloseServer(t *testing.T) {
	b := newBench(t)
	b.write("Dockerfile", "FROM scratch\nADD http://127.0.0.1:1/x /x\n")
	_, err := b.Build(context.Background(), b.request(""))
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1:1 refused the connection: is a server running there?") {
		t.Error(err)
	}
}

func TestParseGit(t *testing.T) {
	keep := true
	for word, want := range map[string]gitSource{
		"https://example.org/a/b.git":            {remote: "https://example.org/a/b.git"},
		"https://example.org/b.git#main":         {remote: "https://example.org/b.git", ref: "main"},
		"https://example.org/b.git#v1:sub/dir":   {remote: "https://example.org/b.git", ref: "v1", subdir: "sub/dir"},
		"git@example.org:a/b.git#:sub":           {remote: "git@example.org:a/b.git", subdir: "sub"},
		"git://example.org/b?ref=x&subdir=y":     {remote: "git://example.org/b", ref: "x", subdir: "y"},
		"ssh://git@example.org/b?keep-git-dir=1": {remote: "ssh://git@example.org/b", keepGit: &keep},
	} {
		got, err := parseGit(word)
		if err != nil || !isGit(word) {
			t.Errorf("%s: %v", word, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(gitSource{})); diff != "" {
			t.Errorf("%s: %s", word, diff)
		}
	}
	for _, word := range []string{"https://example.org/file.tgz", "file.git", "./x.git", "a:b", "https://example.org/x?y=.git"} {
		if isGit(word) {
			t.Errorf("%s is not git's", word)
		}
	}
	for _, word := range []string{"https://x/y.git?what=1", "git://x/y#-oops"} {
		if got, err := parseGit(word); err == nil {
			t.Errorf("%s: %v", word, got)
		}
	}
}

func TestAddNeedsGit(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	b := newBench(t)
	b.write("Dockerfile", "FROM scratch\nADD https://example.org/x.git /x\n")
	_, err := b.Build(context.Background(), b.request(""))
	if err == nil || !strings.Contains(err.Error(), "needs git, which is not installed: install git, or clone") {
		t.Error(err)
	}
}

func TestAddClonesRepositories(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Fatal("this test needs git")
	}
	url := serveGit(t)
	own := filepath.Join(t.TempDir(), "own.git")
	t.Setenv("GIT_DIR", own) // as in a hook
	tests := []struct{ name, line, files string }{
		{"the default branch", "ADD URL /d", "/d 0755 0:0 dir\n/d/file 0644 0:0 \"2\"\n/d/sub 0755 0:0 dir\n/d/sub/x 0755 0:0 \"x\"\n"},
		{"a tag", "ADD URL#first /d/", "/d 0755 0:0 dir\n/d/file 0644 0:0 \"1\"\n"},
		{"a directory", "ADD --chown=1 URL#HEAD:sub /", "/x 0755 1:1 \"x\"\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			b.write("Dockerfile", "FROM scratch\n"+strings.ReplaceAll(test.line, "URL", url)+"\n")
			results := b.build(b.request(""))
			if diff := cmp.Diff(test.files, b.listFiles(results[0])); diff != "" {
				t.Error(diff)
			}
		})
	}
	b := newBench(t)
	b.write("Dockerfile", "FROM scratch\nADD "+url+"#nosuchref /d\n")
	if _, err := b.Build(context.Background(), b.request("")); err == nil || !strings.Contains(err.Error(), "nosuchref") {
		t.Error(err)
	}
	if _, err := os.Lstat(own); err == nil {
		t.Error("git worked in the repository of GIT_DIR")
	}
}

// A stranger's Dockerfile names repositories that only the person can read.
func TestAddHasNoCredentials(t *testing.T) {
	asked := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked += r.Header.Get("Authorization")
		w.Header().Set("WWW-Authenticate", "Basic realm=private")
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer server.Close()
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("GIT_ASKPASS", "echo")
	check(t, os.WriteFile(filepath.Join(home, ".git-credentials"), []byte(strings.Replace(server.URL, "//", "//me:secret@", 1)+"\n"), 0o600))
	check(t, os.WriteFile(filepath.Join(home, ".netrc"), []byte("machine 127.0.0.1 login me password secret\n"), 0o600))
	check(t, os.WriteFile(filepath.Join(home, ".gitconfig"), []byte("[credential]\nhelper = store\n"), 0o600))
	programs := t.TempDir()
	check(t, os.WriteFile(filepath.Join(programs, "ssh"), []byte("#!/bin/sh\necho \"$* $SSH_AUTH_SOCK\" >$0.called\nexit 1\n"), 0o755))
	t.Setenv("PATH", programs+":"+os.Getenv("PATH"))
	t.Setenv("SSH_AUTH_SOCK", filepath.Join(home, "agent"))
	for _, test := range []struct{ repository, err string }{
		{server.URL + "/private.git", "could not read Username"},
		{"git@host:private.git", "git has only the keys that --ssh default lends"},
	} {
		b := newBench(t)
		b.write("Dockerfile", "FROM scratch\nADD "+test.repository+" /d\n")
		_, err := b.Build(context.Background(), b.request(""))
		if err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), home) || asked != "" {
			t.Errorf("%v, Authorization %q", err, asked)
		}
	}
	called, err := os.ReadFile(filepath.Join(programs, "ssh.called"))
	check(t, err)
	if ssh := string(called); !strings.Contains(ssh, "-F none") || !strings.Contains(ssh, "IdentityFile=none") ||
		!strings.Contains(ssh, "IdentityAgent=none") || strings.Contains(ssh, home) {
		t.Errorf("ssh %s", ssh)
	}
}

// serveGit serves a repository with two commits.
func serveGit(t *testing.T) (url string) {
	dir := t.TempDir()
	repo := filepath.Join(dir, "repo")
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-c", "user.name=n", "-c", "user.email=e", "-c", "init.defaultBranch=main"}, args...)...)
		cmd.Dir = repo
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	check(t, os.MkdirAll(filepath.Join(repo, "sub"), 0o755))
	git("init", "-q")
	check(t, os.WriteFile(filepath.Join(repo, "file"), []byte("1"), 0o644))
	git("add", ".")
	git("commit", "-q", "-m", "one")
	git("tag", "first")
	check(t, os.WriteFile(filepath.Join(repo, "file"), []byte("2"), 0o644))
	check(t, os.WriteFile(filepath.Join(repo, "sub/x"), []byte("x"), 0o755))
	git("add", ".")
	git("commit", "-q", "-m", "two")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	addr := l.Addr().String()
	check(t, l.Close())
	_, port, _ := net.SplitHostPort(addr)
	daemon := exec.Command("git", "daemon", "--reuseaddr", "--export-all", "--listen=127.0.0.1", "--port="+port, "--base-path="+dir, dir)
	check(t, daemon.Start())
	t.Cleanup(func() { _ = daemon.Process.Kill(); _ = daemon.Wait() })
	for range 100 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return "git://" + addr + "/repo"
}
