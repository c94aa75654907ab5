package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"proot-distro/internal/image"
	"proot-distro/internal/oci"
)

// Kind is the cause of an [Error], for those who give advice.
type Kind int

// Causes.
const (
	Protocol     Kind = iota // an answer that makes no sense
	DNS                      // the name has no address
	TLS                      // bad certificate, or no TLS at all
	Timeout                  // no answer, or a transfer that stopped
	Refused                  // nothing listens there
	Network                  // unreachable, reset, cut off
	Unauthorized             // 401: no credentials, or refused ones
	Forbidden                // 403
	NotFound                 // 404; see Error.Missing
	RateLimited              // 429; see Error.RetryAfter
	Server                   // 5xx
	TooLarge                 // more bytes than announced or allowed
	BadDigest                // wraps *image.DigestError
	NoPlatform               // wraps *oci.NoPlatformError
	Unsupported              // something that is not an image we can use
	ReadOnly                 // 405 to a push
)

// Missing says what a 404 was about, when the registry tells.
type Missing int

// Values of Error.Missing.
const (
	MissingUnknown Missing = iota
	MissingRepository
	MissingTag
	MissingBlob
)

// Error is why a registry did not give what was asked for. Its text is one sentence.
type Error struct {
	Kind        Kind
	URL         string // of a file on the web; then there is no registry
	Registry    string // "docker.io", "localhost:5000"
	Repository  string // "library/ubuntu"
	Reference   string // tag or digest that was asked for
	Host        string // the machine that failed: the registry, its token server or its CDN
	Missing     Missing
	Tags        []string      // with MissingTag: what tags there are, if the registry tells
	Push        bool          // it was pushed to
	Credentials bool          // the user's credentials were sent
	RetryAfter  time.Duration // 0 when the registry names none
	Err         error

	refused bool // the credentials were
}

func (e *Error) Unwrap() error { return e.Err }

func (e *Error) Error() string {
	name := oci.Ref{Registry: e.Registry, Repository: e.Repository}.String()
	if e.URL != "" {
		name = e.URL
	}
	switch e.Kind {
	case DNS:
		return fmt.Sprintf("the address of %s could not be found: %s", e.Host, reason(e.Err))
	case TLS:
		return fmt.Sprintf("no secure connection to %s is possible: %s", e.Host, reason(e.Err))
	case Timeout:
		return fmt.Sprintf("%s did not answer in time", e.Host)
	case Refused:
		if e.URL != "" {
			return fmt.Sprintf("%s refused the connection: is a server running there?", e.Host)
		}
		return fmt.Sprintf("%s refused the connection: is a registry running there?", e.Host)
	case Network:
		return fmt.Sprintf("the connection to %s failed: %s", e.Host, reason(e.Err))
	case Unauthorized:
		switch {
		case e.URL != "":
			return fmt.Sprintf("%s needs credentials", e.URL)
		case e.refused:
			return fmt.Sprintf("%s refused the credentials given for %s", e.Host, name)
		case e.Push && e.Credentials:
			return fmt.Sprintf("the given credentials do not permit to push to %s on %s", e.Repository, e.Registry)
		case e.Push:
			return fmt.Sprintf("a push to %s on %s needs credentials", e.Repository, e.Registry)
		case e.Credentials:
			return fmt.Sprintf("%s on %s does not exist or is not open to the given credentials", e.Repository, e.Registry)
		}
		return fmt.Sprintf("%s on %s does not exist or needs credentials", e.Repository, e.Registry)
	case ReadOnly:
		return fmt.Sprintf("%s accepts no pushes", e.Host)
	case Forbidden:
		if e.Push {
			return fmt.Sprintf("%s does not permit to push to %s", e.Host, name)
		}
		return fmt.Sprintf("%s denies access to %s", e.Host, name)
	case NotFound:
		return e.notFound(name)
	case RateLimited:
		if e.RetryAfter > 0 {
			return fmt.Sprintf("%s limits the number of requests: try again in %s", e.Host, e.RetryAfter.Round(time.Second))
		}
		return fmt.Sprintf("%s limits the number of requests: try again later", e.Host)
	case Server:
		return fmt.Sprintf("%s is out of order: %s", e.Host, reason(e.Err))
	case Protocol:
		if status := new(statusError); e.Push && errors.As(e.Err, &status) {
			return fmt.Sprintf("%s refused the image: %s", e.Host, status)
		}
		return fmt.Sprintf("%s gave an answer that makes no sense: %s", e.Host, reason(e.Err))
	}
	return fmt.Sprintf("%s: %v", name, e.Err)
}

func (e *Error) notFound(name string) string {
	if e.URL != "" {
		return fmt.Sprintf("%s does not exist", e.URL)
	}
	switch e.Missing {
	case MissingTag:
		if strings.Contains(e.Reference, ":") {
			return fmt.Sprintf("%s has no image with digest %s", name, e.Reference)
		}
		return fmt.Sprintf("%s has no tag %q", name, e.Reference)
	case MissingBlob:
		return fmt.Sprintf("%s lacks a part of the image that its own manifest names: %s", name, e.Reference)
	case MissingRepository:
		return fmt.Sprintf("%s has no repository %q", e.Registry, e.Repository)
	}
	return fmt.Sprintf("%s has no image %q with tag %q", e.Registry, e.Repository, e.Reference)
}

// reason drops the layers "Get https://…: dial tcp 1.2.3.4: …" around a cause.
func reason(err error) string {
	if known := new(fault); errors.As(err, &known) {
		return known.Error()
	}
	if dns := new(net.DNSError); errors.As(err, &dns) {
		return dns.Err
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// statusError is an HTTP answer other than the wanted one.
type statusError struct {
	code       int
	host       string
	codes      []string // of the distribution spec, "Error Codes"
	message    string
	retryAfter time.Duration
}

func (e *statusError) Error() string {
	s := strings.TrimSpace(fmt.Sprintf("%d %s", e.code, http.StatusText(e.code)))
	if e.message != "" {
		s += " (" + e.message + ")"
	}
	return s
}

// newStatusError reads and closes the body of an unwanted answer.
func newStatusError(resp *http.Response) *statusError {
	defer resp.Body.Close()
	e := &statusError{code: resp.StatusCode, host: resp.Request.URL.Host, retryAfter: retryAfter(resp.Header.Get("Retry-After"))}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var doc struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal(body, &doc) != nil {
		return e
	}
	for _, d := range doc.Errors {
		e.codes = append(e.codes, d.Code)
		if e.message == "" && len(d.Message) < 200 {
			e.message = d.Message
		}
	}
	return e
}

// retryAfter reads both forms of RFC 9110 section 10.2.3.
func retryAfter(value string) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil && seconds > 0 && seconds < 1<<30 {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// errStalled is the cause of a body read that was cut off because nothing came.
var errStalled = errors.New("the transfer stopped")

// fault is a failure whose kind is known where it happens.
type fault struct {
	kind Kind
	err  error
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

func faultf(kind Kind, format string, args ...any) error {
	return &fault{kind, fmt.Errorf(format, args...)}
}

// explain turns what went wrong into an [Error]. The user's own interruption and
// failures of this machine's disk stay what they are.
func (c *client) explain(err error, reference string, missing Missing) error {
	var done *Error
	if err == nil || errors.As(err, &done) || errors.Is(err, context.Canceled) || isLocal(err) || kindOf(err) == notOurs {
		return err
	}
	e := &Error{Registry: c.ref.Registry, Repository: c.ref.Repository, Reference: reference, Host: c.ref.Registry, Err: err}
	e.Kind, e.Push = kindOf(err), c.auth.pushing
	if host := failedHost(err); host != "" && host != c.host {
		e.Host = host
	}
	if s := new(statusError); errors.As(err, &s) {
		e.RetryAfter = s.retryAfter
		e.Credentials, e.refused = c.auth.credentials()
		if s.host != c.host {
			e.Host = s.host
		}
		if e.Kind == NotFound {
			e.Missing = missing
		}
		if e.Push && s.code == http.StatusMethodNotAllowed {
			e.Kind = ReadOnly
		}
		for _, code := range s.codes {
			if code == "NAME_UNKNOWN" {
				e.Missing = MissingRepository
			}
		}
	}
	return e
}

// failedHost is the machine of the innermost request: a token is fetched within
// another request.
func failedHost(err error) (host string) {
	for u := new(url.Error); errors.As(err, &u); err = u.Err {
		if parsed, err := url.Parse(u.URL); err == nil {
			host = parsed.Host
		}
	}
	return host
}

// isLocal holds for errors of file operations.
func isLocal(err error) bool {
	for _, e := range []error{unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EROFS, unix.EFBIG, unix.EMFILE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func kindOf(err error) Kind {
	var (
		known    *fault
		status   *statusError
		digest   *image.DigestError
		platform *oci.NoPlatformError
		dns      *net.DNSError
		timeout  net.Error
	)
	switch {
	case errors.As(err, &known):
		return known.kind
	case errors.As(err, &status):
		return kindOfStatus(status.code)
	case errors.As(err, &digest):
		return BadDigest
	case errors.As(err, &platform):
		return NoPlatform
	case errors.As(err, &dns):
		return DNS
	case isTLS(err):
		return TLS
	case errors.Is(err, errStalled), errors.As(err, &timeout) && timeout.Timeout():
		return Timeout
	case errors.Is(err, unix.ECONNREFUSED):
		return Refused
	}
	if op := new(net.OpError); errors.As(err, &op) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return Network
	}
	if u := new(url.Error); errors.As(err, &u) {
		return Protocol
	}
	return notOurs
}

// notOurs is the kind of errors that a registry did not cause, such as those of files.
const notOurs Kind = -1

// broken is the error of reading a body, of which net/http has many without a type.
func broken(err error) error {
	switch {
	case err == io.EOF: // a clean end in the wrong place
		return io.ErrUnexpectedEOF
	case kindOf(err) == notOurs && !errors.Is(err, context.Canceled):
		return &fault{Network, err}
	}
	return err
}

func kindOfStatus(code int) Kind {
	switch {
	case code == http.StatusUnauthorized:
		return Unauthorized
	case code == http.StatusForbidden:
		return Forbidden
	case code == http.StatusNotFound:
		return NotFound
	case code == http.StatusTooManyRequests:
		return RateLimited
	case code >= 500:
		return Server
	}
	return Protocol
}

func isTLS(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		record       tls.RecordHeaderError
		alert        tls.AlertError
		authority    x509.UnknownAuthorityError
		hostname     x509.HostnameError
		invalid      x509.CertificateInvalidError
	)
	return errors.As(err, &verification) || errors.As(err, &record) || errors.As(err, &alert) ||
		errors.As(err, &authority) || errors.As(err, &hostname) || errors.As(err, &invalid) ||
		errors.Is(err, http.ErrSchemeMismatch)
}
