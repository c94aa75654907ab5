package stories

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdHub gives a story an internet of its own: an HTTP proxy, named in the usual variables, behind which every host
// name is the story's registry, over TLS with an authority that SSL_CERT_FILE trusts. Docker Hub has its token server
// and search. Hosts named insecure.* speak plain http only, and untrusted.* have a certificate of nobody's.
func cmdHub(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: hub")
	}
	h := &hub{registry: ts.Value(registryKey{}).(*registry)}
	ts.Check(h.makeAuthority())
	ca := ts.MkAbs("hub-ca.pem")
	ts.Check(os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.authority.Raw}), 0o644))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	server := &http.Server{Handler: h, ErrorLog: silent}
	go func() { _ = server.Serve(l) }() // ends with the story
	ts.Defer(func() { _ = server.Close() })
	for _, variable := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		ts.Setenv(variable, "http://"+l.Addr().String())
	}
	ts.Setenv("SSL_CERT_FILE", ca)
}

// silent swallows what servers log when clients break off, which stories make them do.
var silent = log.New(io.Discard, "", 0)

type hub struct {
	registry  *registry
	authority *x509.Certificate
	key       *ecdsa.PrivateKey
}

func (h *hub) makeAuthority() (err error) {
	if h.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stories"}, IsCA: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, h.key.Public(), h.key)
	if err != nil {
		return err
	}
	h.authority, err = x509.ParseCertificate(der)
	return err
}

// certificate is for one host; untrusted.* signs its own.
func (h *hub) certificate(host string) (*tls.Certificate, error) {
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	parent := h.authority
	if strings.HasPrefix(host, "untrusted.") {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, h.key.Public(), h.key)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: h.key}, err
}

// ServeHTTP is the proxy: plain requests name a whole URL, and CONNECT opens a tunnel, at whose far end we are too.
func (h *hub) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodConnect {
		h.serveHost(w, req, req.URL.Hostname())
		return
	}
	host, _, _ := net.SplitHostPort(req.Host)
	if strings.HasPrefix(host, "unreachable.") {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\n\r\n")) // a failure shows in the handshake
	if strings.HasPrefix(host, "insecure.") {
		// A server without TLS answers a handshake so.
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = conn.Write([]byte("HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"))
		_ = conn.Close()
		return
	}
	tlsConn := tls.Server(conn, &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return h.certificate(host) },
		NextProtos:     []string{"http/1.1"},
	})
	inner := &http.Server{ErrorLog: silent, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h.serveHost(w, req, host)
	})}
	_ = inner.Serve(&oneConn{conn: tlsConn}) // returns at once; the connection goes on
}

// serveHost answers in the name of a host.
func (h *hub) serveHost(w http.ResponseWriter, req *http.Request, host string) {
	switch {
	case host == "hub.docker.com":
		serveSearch(w, req)
	case strings.HasSuffix(host, "docker.io"):
		req.URL.Path = strings.Replace(req.URL.Path, "/v2/library/", "/v2/", 1)
		h.registry.serve(w, req, "token", "https://auth.docker.io/token")
	default:
		h.registry.serve(w, req, "", "")
	}
}

// serveSearch knows three repositories, in the form of Docker Hub's API.
func serveSearch(w http.ResponseWriter, req *http.Request) {
	query := req.URL.Query().Get("query")
	all := []string{
		`{"repo_name": "debian", "short_description": "Debian is a Linux distribution", "star_count": 5000, "pull_count": 1000000, "is_official": true}`,
		`{"repo_name": "someone/debian-slim", "short_description": "smaller\u001b[31m", "star_count": 3, "pull_count": 20, "is_official": false}`,
		`{"repo_name": "busybox", "short_description": "Busybox base image.", "star_count": 3000, "pull_count": 900000, "is_official": true}`,
	}
	var found []string
	for _, repo := range all {
		if strings.Contains(repo, query) {
			found = append(found, repo)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"count": %d, "next": "", "previous": "", "results": [%s]}`, len(found), strings.Join(found, ","))
}

// oneConn is a listener that accepts one connection, which is open already.
type oneConn struct {
	conn net.Conn
	done bool
}

func (l *oneConn) Accept() (net.Conn, error) {
	if l.done {
		return nil, errors.New("only one connection")
	}
	l.done = true
	return l.conn, nil
}

func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return l.conn.LocalAddr() }
