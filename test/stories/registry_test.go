package stories

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"proot-distro/test/fixtures"
)

// registry is what a story sees as its registry: a proxy in front of the real one, which counts requests and
// misbehaves on demand.
type registry struct {
	addr        string
	plain, auth *httputil.ReverseProxy

	mu       sync.Mutex
	server   *http.Server // nil while stopped
	requests []string     // "GET /v2/…", since they were last asked for
	mode     string       // "", "basic" or "token"
	answers  []answer
	slow     int64 // bytes a second of a blob, 0: no limit
	cut      int64 // bytes after which a blob breaks off, 0: never
	corrupt  bool  // blobs arrive with a wrong byte
}

// answer replaces what the real registry would say.
type answer struct {
	path   *regexp.Regexp
	code   int
	header [2]string
}

type registryKey struct{}

func newRegistry(plain, auth string) (*registry, error) {
	r := &registry{addr: "127.0.0.1:0", plain: reverse(plain), auth: reverse(auth)}
	return r, r.start()
}

func reverse(addr string) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: addr})
			p.Out.Host = p.In.Host
		},
		ErrorLog:     silent,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
}

func (r *registry) start() error {
	l, err := net.Listen("tcp", r.addr)
	if err != nil {
		return err
	}
	r.addr = l.Addr().String() // the same one after a stop
	server := &http.Server{Handler: r, ErrorLog: silent}
	r.server = server
	go func() { _ = server.Serve(l) }() // ends with stop
	return nil
}

func (r *registry) stop() {
	if r.server != nil {
		_ = r.server.Close()
		r.server = nil
	}
}

func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	mode := r.mode
	r.mu.Unlock()
	r.serve(w, req, mode, "http://"+r.addr+"/token")
}

func (r *registry) serve(w http.ResponseWriter, req *http.Request, mode, realm string) {
	r.mu.Lock()
	r.requests = append(r.requests, req.Method+" "+req.URL.Path)
	answers := r.answers
	if isBlob(req) && (r.slow > 0 || r.cut > 0 || r.corrupt) {
		w = &badWriter{ResponseWriter: w, slow: r.slow, cut: r.cut, corrupt: r.corrupt}
	}
	r.mu.Unlock()
	for _, a := range answers {
		if a.path.MatchString(req.URL.Path) {
			if a.header[0] != "" {
				w.Header().Set(a.header[0], a.header[1])
			}
			w.WriteHeader(a.code)
			return
		}
	}
	switch {
	case req.URL.Path == "/token":
		serveToken(w, req)
	case mode == "token" && !hasToken(req):
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="test",scope=%q`, realm, scope(req)))
		w.WriteHeader(http.StatusUnauthorized)
	case mode == "basic":
		r.auth.ServeHTTP(w, req)
	default:
		r.plain.ServeHTTP(w, req)
	}
}

func isBlob(req *http.Request) bool {
	return req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/")
}

// The token server works as Docker Hub's: nobody needs a password for a public image, and a wrong password is refused
// even then. What it gives out names the repository that it is good for.

func scope(req *http.Request) string {
	repo := regexp.MustCompile(`^/v2/(.+)/(manifests|blobs|tags)/`).FindStringSubmatch(req.URL.Path)
	if repo == nil {
		return ""
	}
	return "repository:" + repo[1] + ":pull"
}

func hasToken(req *http.Request) bool {
	token, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return false
	}
	granted, err := base64.StdEncoding.DecodeString(token)
	// Docker Hub's short names are resolved by the command `hub`.
	return err == nil && (scope(req) == "" || strings.Replace(string(granted), "library/", "", 1) == scope(req))
}

func serveToken(w http.ResponseWriter, req *http.Request) {
	wanted := req.URL.Query().Get("scope")
	user, password, given := req.BasicAuth()
	right := user == fixtures.User && password == fixtures.Password
	if given && !right || !given && strings.HasPrefix(wanted, "repository:private/") {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	fmt.Fprintf(w, `{"token": %q}`, base64.StdEncoding.EncodeToString([]byte(wanted)))
}

// badWriter sends a blob slowly, in part, or damaged.
type badWriter struct {
	http.ResponseWriter
	slow, cut, sent int64
	corrupt         bool
}

func (w *badWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *badWriter) Write(p []byte) (int, error) {
	if w.corrupt && len(p) > 0 {
		p = bytes.Clone(p)
		p[len(p)/2] ^= 1
	}
	total := 0
	for total < len(p) {
		chunk := p[total:min(len(p), total+16<<10)]
		if w.cut > 0 && w.sent+int64(len(chunk)) > w.cut {
			_ = http.NewResponseController(w.ResponseWriter).Flush()
			panic(http.ErrAbortHandler) // closes the connection
		}
		n, err := w.ResponseWriter.Write(chunk)
		total += n
		w.sent += int64(n)
		if err != nil {
			return total, err
		}
		if w.slow > 0 {
			_ = http.NewResponseController(w.ResponseWriter).Flush()
			time.Sleep(time.Duration(len(chunk)) * time.Second / time.Duration(w.slow))
		}
	}
	return total, nil
}

// cmdSink starts an empty registry that takes pushes and sets SINK to its host:port:
//
//	sink
func cmdSink(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: sink")
	}
	r, err := fixtures.Serve(ts.MkAbs("sink"), fixtures.RegistryOptions{Writable: true})
	ts.Check(err)
	ts.Defer(func() { _ = r.Close() })
	ts.Setenv("SINK", r.Addr)
}

// cmdRegistry changes the story's registry:
//
//	registry stop | start
//	registry requests           print the requests since this was last asked, one a line
//	registry auth basic|token   ask for the password alice:secret; with token only for private/…
//	registry answer CODE PATH-REGEXP [HEADER VALUE]
//	registry slow BYTES         a second, for each blob
//	registry cut BYTES          break off each blob after so many
//	registry corrupt            damage each blob
//	registry well               end all of that
func cmdRegistry(ts *testscript.TestScript, neg bool, args []string) {
	r := ts.Value(registryKey{}).(*registry)
	if neg || len(args) == 0 {
		ts.Fatalf("usage: registry stop|start|requests|auth|answer|slow|cut|corrupt|well")
	}
	switch args[0] {
	case "stop":
		r.stop()
	case "start":
		ts.Check(r.start())
	default:
		ts.Check(r.change(ts.Stdout(), args[0], args[1:]))
	}
}

func (r *registry) change(out io.Writer, what string, args []string) (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case what == "requests" && len(args) == 0:
		for _, line := range r.requests {
			fmt.Fprintln(out, line)
		}
		r.requests = nil
	case what == "auth" && len(args) == 1:
		r.mode = args[0]
	case what == "answer" && (len(args) == 2 || len(args) == 4):
		a := answer{}
		if a.code, err = strconv.Atoi(args[0]); err != nil {
			return err
		}
		if a.path, err = regexp.Compile(args[1]); err == nil && len(args) == 4 {
			a.header = [2]string{args[2], args[3]}
		}
		r.answers = append(r.answers, a)
	case what == "slow" && len(args) == 1:
		r.slow, err = strconv.ParseInt(args[0], 10, 64)
	case what == "cut" && len(args) == 1:
		r.cut, err = strconv.ParseInt(args[0], 10, 64)
	case what == "corrupt" && len(args) == 0:
		r.corrupt = true
	case what == "well" && len(args) == 0:
		r.mode, r.answers, r.slow, r.cut, r.corrupt = "", nil, 0, 0, false
	default:
		err = fmt.Errorf("registry %s %s: no such use", what, strings.Join(args, " "))
	}
	return err
}
