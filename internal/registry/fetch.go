package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"proot-distro/internal/report"
)

// FetchRequest is a file on the web.
type FetchRequest struct {
	URL      *url.URL // http or https
	Insecure bool     // bad certificates are accepted
	Version  string   // of this program
	Into     *os.File // empty, open for writing
	Label    string   // of the progress line
	Report   report.Reporter

	Transport http.RoundTripper // nil means the network

	pace pace // for tests
}

// Fetched is what is known of a file that was downloaded.
type Fetched struct {
	Size     int64     // in bytes
	Modified time.Time // zero when the server does not tell
}

// Fetch downloads a whole file and goes on where a broken connection stopped, as long
// as the server's validator (ETag or Last-Modified) says that it is the same file.
// Failures are *Error.
func Fetch(ctx context.Context, req FetchRequest) (Fetched, error) {
	if req.pace == (pace{}) {
		req.pace = usualPace
	}
	inner := req.Transport
	if inner == nil {
		inner = newTransport(req.Insecure)
	}
	meter := req.Report.Begin(report.Task{Label: req.Label})
	defer func() { meter.Done() }()
	f := &fetch{
		req:   req,
		meter: &meter,
		http: &http.Client{
			Transport:     &courteous{inner: inner, userAgent: userAgent(req.Version), stall: req.pace.stall},
			CheckRedirect: checkRedirect,
		},
	}
	err := req.pace.repeat(ctx, func() (bool, error) {
		before := f.have
		err := f.connection(ctx)
		return f.have > before, err
	})
	return Fetched{f.have, f.modified}, f.explain(err)
}

// fetch is one file on its way.
type fetch struct {
	req   FetchRequest
	http  *http.Client
	meter *report.Meter // begun anew once the size is known

	have      int64
	total     int64  // 0 when not known
	validator string // for If-Range
	modified  time.Time
}

// connection takes what one response gives; nil means that the file is complete.
func (f *fetch) connection(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.req.URL.String(), nil)
	if err != nil {
		return faultf(Protocol, "bad address: %w", err)
	}
	if f.have > 0 && f.validator != "" {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", f.have))
		req.Header.Set("If-Range", f.validator)
	}
	resp, err := f.http.Do(req)
	if err != nil {
		return err
	}
	var first int64
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &first); err != nil || first != f.have {
			resp.Body.Close()
			f.validator = "" // no more ranges from this one
			return faultf(Network, "it sent the range %q when asked for bytes from %d on", resp.Header.Get("Content-Range"), f.have)
		}
	default:
		return newStatusError(resp)
	}
	defer resp.Body.Close()
	if err := f.seek(first); err != nil {
		return err
	}
	f.learn(resp)
	return f.copy(resp.Body)
}

// seek goes on at offset, dropping whatever the file holds beyond it.
func (f *fetch) seek(offset int64) error {
	if err := f.req.Into.Truncate(offset); err != nil {
		return fmt.Errorf("write download: %w", err)
	}
	if _, err := f.req.Into.Seek(offset, io.SeekStart); err != nil {
		return fmt.Errorf("write download: %w", err)
	}
	(*f.meter).Add(offset - f.have)
	f.have = offset
	return nil
}

// learn takes size, time and validator from a response. A weak ETag does not vouch for
// bytes (RFC 9110, section 13.1.5).
func (f *fetch) learn(resp *http.Response) {
	f.validator = resp.Header.Get("ETag")
	if f.validator == "" || f.validator[0] != '"' {
		f.validator = resp.Header.Get("Last-Modified")
	}
	f.modified, _ = http.ParseTime(resp.Header.Get("Last-Modified")) // zero for none
	if total := f.have + resp.ContentLength; resp.ContentLength > 0 && f.total != total {
		f.total = total
		(*f.meter).Done()
		*f.meter = f.req.Report.Begin(report.Task{Label: f.req.Label, Total: total})
		(*f.meter).Add(f.have)
	}
}

func (f *fetch) copy(body io.Reader) error {
	buf := make([]byte, copySize)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if _, err := f.req.Into.Write(buf[:n]); err != nil {
				return fmt.Errorf("write download: %w", err)
			}
			f.have += int64(n)
			(*f.meter).Add(int64(n))
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return broken(err)
		}
	}
}

func (f *fetch) explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || isLocal(err) || kindOf(err) == notOurs {
		return err
	}
	e := &Error{Kind: kindOf(err), URL: f.req.URL.Redacted(), Registry: f.req.URL.Host, Host: f.req.URL.Host, Err: err}
	if host := failedHost(err); host != "" {
		e.Host = host
	}
	if s := new(statusError); errors.As(err, &s) {
		e.RetryAfter = s.retryAfter
	}
	return e
}
