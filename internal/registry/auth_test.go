package registry

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

// tokenServer gives tokens to users of its choice, on another port than the registry.
type tokenServer struct {
	*httptest.Server
	issued  atomic.Int64
	good    atomic.Int64                           // the number of the token that is accepted
	refuses func(user, pass string, anon bool) int // status, or 0
	check   func(r *http.Request)
}

// guard puts a fake behind a token server.
func guard(t *testing.T, f *fake) *tokenServer {
	s := &tokenServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.check != nil {
			s.check(r)
		}
		user, pass, ok := r.BasicAuth()
		if s.refuses != nil {
			if code := s.refuses(user, pass, !ok); code != 0 {
				w.WriteHeader(code)
				return
			}
		}
		n := s.issued.Add(1)
		s.good.Store(n)
		fmt.Fprintf(w, `{"access_token":"token-%d","expires_in":60}`, n)
	}))
	t.Cleanup(s.Close)
	f.spoil = func(w http.ResponseWriter, r *http.Request, path string) bool {
		if r.Header.Get("Authorization") == fmt.Sprintf("Bearer token-%d", s.good.Load()) {
			return false
		}
		w.Header().Add("WWW-Authenticate", `Negotiate`)
		w.Header().Add("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token?x=y",service="the, registry",scope="repository:%s:pull"`, s.URL, repo))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	return s
}

func TestBearerAnonymous(t *testing.T) {
	f := newFake(t)
	a := layerOf("a", 100)
	f.push("latest", "amd64", a)
	s := guard(t, f)
	s.check = func(r *http.Request) {
		q := r.URL.Query()
		if diff := cmp.Diff(map[string][]string{"x": {"y"}, "service": {"the, registry"}, "scope": {"repository:" + repo + ":pull"}}, map[string][]string(q)); diff != "" {
			t.Errorf("token request: %s", diff)
		}
		if r.Header.Get("Authorization") != "" {
			t.Error("an anonymous request carries Authorization")
		}
	}
	req := f.request(t, newCache(t))
	seen := &notes{}
	req.Report = seen
	mustPull(t, req, a)
	if n := s.issued.Load(); n != 1 {
		t.Errorf("%d tokens for one pull", n)
	}
	if text := seen.text(); !strings.Contains(text, "info: Authenticating with 127.0.0.1") || strings.Contains(text, "credentials") {
		t.Errorf("messages: %s", text)
	}
}

func TestBearerWithCredentials(t *testing.T) {
	f := newFake(t)
	a := layerOf("a", 100)
	f.push("latest", "amd64", a)
	s := guard(t, f)
	s.refuses = func(user, pass string, _ bool) int {
		if user == "me" && pass == "a:b" {
			return 0
		}
		return http.StatusUnauthorized
	}
	req := f.request(t, newCache(t))
	seen := &notes{}
	req.Report, req.Auth.UserPass = seen, "me:a:b"
	mustPull(t, req, a)
	if !strings.Contains(seen.text(), "(user credentials)") {
		t.Errorf("messages: %s", seen.text())
	}

	req.Cache, req.Auth.UserPass = newCache(t), ""
	if e := failKind(t, req, Unauthorized, "does not exist or needs credentials"); e.Credentials {
		t.Error("anonymous, but Credentials is set")
	}
	req.Auth.UserPass = "me:wrong"
	if e := failKind(t, req, Unauthorized, "refused the credentials"); !e.Credentials {
		t.Error("Credentials is not set")
	}
}

func TestRefusedCredentialsOfPublicImage(t *testing.T) {
	for _, code := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		f := newFake(t)
		a := layerOf("a", 100)
		f.push("latest", "amd64", a)
		guard(t, f).refuses = func(_, _ string, anon bool) int {
			if anon {
				return 0
			}
			return code
		}
		req := f.request(t, newCache(t))
		seen := &notes{}
		req.Report, req.Auth.UserPass = seen, "me:wrong"
		mustPull(t, req, a)
		if !strings.Contains(seen.text(), "warning: the credentials given for 127.0.0.1") || !strings.Contains(seen.text(), "trying anonymously") {
			t.Errorf("messages: %s", seen.text())
		}
	}
}

// TestNoAccess: the token server knows the user, but the registry still says no.
func TestNoAccess(t *testing.T) {
	f := newFake(t)
	s := guard(t, f)
	challenge := f.spoil
	f.spoil = func(w http.ResponseWriter, r *http.Request, path string) bool {
		s.good.Store(-1)
		return challenge(w, r, path)
	}
	req := f.request(t, newCache(t))
	req.Auth.UserPass = "me:secret"
	if e := failKind(t, req, Unauthorized, "not open to the given credentials"); !e.Credentials {
		t.Error("Credentials is not set")
	}
	if n := s.issued.Load(); n != 1 {
		t.Errorf("%d tokens were asked for", n)
	}
}

// TestTokenExpires in the middle of a layer.
func TestTokenExpires(t *testing.T) {
	f := newFake(t)
	a := layerOf("a", 100_000)
	f.push("latest", "amd64", a)
	s := guard(t, f)
	checkToken := f.spoil
	var cuts atomic.Int64
	f.spoil = func(w http.ResponseWriter, r *http.Request, path string) bool {
		if checkToken(w, r, path) {
			return true
		}
		if path == "blobs/"+digest.FromBytes(a).String() && cuts.Add(1) == 1 {
			s.good.Store(-1)
			cut(w, a, 0, 40_000)
		}
		return false
	}
	mustPull(t, f.request(t, newCache(t)), a)
	if n := s.issued.Load(); n != 2 {
		t.Errorf("%d tokens were fetched, want 2", n)
	}
}

func TestBasicAuth(t *testing.T) {
	f := newFake(t)
	a := layerOf("a", 100)
	f.push("latest", "amd64", a)
	f.spoil = func(w http.ResponseWriter, r *http.Request, path string) bool {
		if user, pass, _ := r.BasicAuth(); user == "me" && pass == "secret" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	req := f.request(t, newCache(t))
	if e := failKind(t, req, Unauthorized, "needs credentials"); e.Credentials {
		t.Error("Credentials is set")
	}
	req.Auth.UserPass = "me:wrong"
	if e := failKind(t, req, Unauthorized, "refused the credentials"); !e.Credentials {
		t.Error("Credentials is not set")
	}
	req.Auth.UserPass = "me:secret"
	mustPull(t, req, a)
}

// TestRedirectDropsAuthorization: another port is another host.
func TestRedirectDropsAuthorization(t *testing.T) {
	f := newFake(t)
	a := layerOf("a", 100_000)
	f.push("latest", "amd64", a)
	guard(t, f)
	var ranges []string
	cdn := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := r.Header.Get("Authorization"); h != "" {
			t.Errorf("the CDN got %q", h)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		ranges = append(ranges, r.Header.Get("Range"))
		if len(ranges) == 1 {
			cut(w, a, 0, 30_000)
		}
		f.serve(w, r, strings.TrimPrefix(r.URL.Path, "/"))
	}))
	defer cdn.Close()
	authorized := f.spoil
	f.spoil = func(w http.ResponseWriter, r *http.Request, path string) bool {
		if authorized(w, r, path) {
			return true
		}
		if path == "blobs/"+digest.FromBytes(a).String() {
			http.Redirect(w, r, cdn.URL+"/"+path, http.StatusTemporaryRedirect)
			return true
		}
		return false
	}
	req := f.request(t, newCache(t))
	req.Auth.UserPass = "me:secret"
	mustPull(t, req, a)
	if diff := cmp.Diff([]string{"", "bytes=30000-"}, ranges); diff != "" {
		t.Error(diff)
	}
}

func TestTokenServerAnswers(t *testing.T) {
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		kind   Kind
		text   string
	}{
		"rate limit": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "90"); w.WriteHeader(429) }, RateLimited, "1m30s"},
		"broken":     {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, Server, "500"},
		"not JSON":   {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, Protocol, "not JSON"},
		"no token":   {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }, Protocol, "no usable token"},
		"evil token": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"token":"a\r\nX: y"}`) }, Protocol, "no usable token"},
		"endless":    {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.CopyN(w, zeros{}, 1<<20) }, TooLarge, "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.push("latest", "amd64", layerOf("a", 1))
			guard(t, f).Config.Handler = tt.answer
			if e := failKind(t, f.request(t, newCache(t)), tt.kind, tt.text); e.Kind == RateLimited && e.RetryAfter.Seconds() != 90 {
				t.Errorf("RetryAfter %s", e.RetryAfter)
			}
		})
	}
}

func TestDockerConfigAndHelper(t *testing.T) {
	f := newFake(t)
	a := layerOf("a", 100)
	f.push("latest", "amd64", a)
	guard(t, f).refuses = func(user, pass string, _ bool) int {
		if (user == "plain" || user == "helped") && pass == "secret" {
			return 0
		}
		return http.StatusUnauthorized
	}
	write := func(dir, name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	bin, home, host := t.TempDir(), t.TempDir(), strings.TrimPrefix(f.URL, "http://")
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	write(bin, "docker-credential-pdtest", "#!/bin/sh\ncat >/dev/null\necho '{\"Username\":\"helped\",\"Secret\":\"secret\"}'\n", 0o755)
	write(bin, "docker-credential-pdbroken", "#!/bin/sh\necho broken\nexit 1\n", 0o755)

	for config, works := range map[string]bool{
		`{"auths":{"` + host + `":{"auth":"cGxhaW46c2VjcmV0"}}}`:  true, // plain:secret
		`{"credHelpers":{"` + host + `":"pdtest"}}`:               true,
		`{"credHelpers":{"` + host + `":"pdbroken"}}`:             false,
		`{"auths":{"other.example":{"auth":"cGxhaW46c2VjcmV0"}}}`: false,
	} {
		req := f.request(t, newCache(t))
		t.Setenv("DOCKER_CONFIG", t.TempDir())
		write(os.Getenv("DOCKER_CONFIG"), "config.json", config, 0o600)
		seen := &notes{}
		req.Report = seen
		if works {
			mustPull(t, req, a)
		} else {
			failKind(t, req, Unauthorized, "")
		}
		if got := strings.Contains(seen.text(), "could not be read"); got != strings.Contains(config, "pdbroken") {
			t.Errorf("%s: messages: %s", config, seen.text())
		}
	}

	// The usual place.
	t.Setenv("HOME", home)
	t.Setenv("DOCKER_CONFIG", home)
	write(home, "config.json", `{"auths":{"`+host+`":{"auth":"cGxhaW46c2VjcmV0"}}}`, 0o600)
	req := f.request(t, newCache(t))
	mustPull(t, req, a)
}

func TestIdentityToken(t *testing.T) {
	f := newFake(t)
	a := layerOf("a", 100)
	f.push("latest", "amd64", a)
	s := guard(t, f)
	s.check = func(r *http.Request) {
		if r.Method != http.MethodPost || r.FormValue("grant_type") != "refresh_token" || r.FormValue("refresh_token") != "it" {
			t.Errorf("%s with %v", r.Method, r.Form)
		}
	}
	req := f.request(t, newCache(t))
	config := `{"auths":{"` + strings.TrimPrefix(f.URL, "http://") + `":{"identitytoken":"it"}}}`
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	if err := os.WriteFile(filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	mustPull(t, req, a)
}

func TestParseChallenges(t *testing.T) {
	c := func(scheme string, kv ...string) challenge {
		params := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			params[kv[i]] = kv[i+1]
		}
		return challenge{scheme, params}
	}
	for _, tt := range []struct {
		in   []string
		want []challenge
	}{
		{nil, nil},
		{[]string{""}, nil},
		{[]string{"???"}, nil},
		{[]string{`Basic`}, []challenge{c("basic")}},
		{[]string{`Bearer realm="https://a/b?c=d",service="x y",scope="r:a/b:pull,push"`},
			[]challenge{c("bearer", "realm", "https://a/b?c=d", "service", "x y", "scope", "r:a/b:pull,push")}},
		{[]string{`BEARER Realm = "a\"b\\c" , error="x"`}, []challenge{c("bearer", "realm", `a"b\c`, "error", "x")}},
		{[]string{`Basic realm="a", Bearer realm="b",service=c`, `Negotiate`},
			[]challenge{c("basic", "realm", "a"), c("bearer", "realm", "b", "service", "c"), c("negotiate")}},
		{[]string{`Bearer realm=https://a/b,service=s`}, []challenge{c("bearer", "realm", "https://a/b", "service", "s")}},
		{[]string{`Bearer realm="unterminated`}, []challenge{c("bearer", "realm", "unterminated")}},
		{[]string{`Bearer realm="first",realm="second"`}, []challenge{c("bearer", "realm", "first")}},
	} {
		if diff := cmp.Diff(tt.want, parseChallenges(tt.in), cmp.AllowUnexported(challenge{})); diff != "" {
			t.Errorf("%q: %s", tt.in, diff)
		}
	}
}

func FuzzParseChallenges(f *testing.F) {
	for _, s := range []string{`Bearer realm="a",service=b`, `Basic realm="x", Bearer a=`, `a b c d`, `"`, `,=,`, `A =`, "Bearer \x00=\"\\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, c := range parseChallenges([]string{s}) {
			if c.scheme == "" || c.params == nil {
				t.Fatalf("%q gives %+v", s, c)
			}
		}
	})
}
