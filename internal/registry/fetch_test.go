package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"proot-distro/internal/report"
)

// fetchFrom downloads from a server with the given handler.
func fetchFrom(t *testing.T, h http.HandlerFunc) ([]byte, error) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL + "/file.tar")
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	_, err = Fetch(context.Background(), FetchRequest{
		URL: address, Into: file, Report: report.Discard,
		pace: pace{stall: time.Second, tries: 3, pause: time.Millisecond},
	})
	data, rerr := os.ReadFile(file.Name())
	if rerr != nil {
		t.Fatal(rerr)
	}
	return data, err
}

func TestFetchResumes(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	for _, tc := range []struct {
		name      string
		validator string
		changed   bool // the file is another one after the first connection
		refused   bool // the server does not want to know of ranges any more
		ranges    int  // how many later requests must ask for a range
	}{
		{name: "strong validator", validator: `"v1"`, ranges: 1},
		{name: "weak validator", validator: `W/"v1"`},
		{name: "no validator"},
		{name: "changed meanwhile", validator: `"v1"`, changed: true, ranges: 1},
		{name: "no such range", validator: `"v1"`, refused: true, ranges: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			requests, ranges := 0, 0
			got, err := fetchFrom(t, func(w http.ResponseWriter, r *http.Request) {
				requests++
				if tc.validator != "" {
					w.Header().Set("ETag", tc.validator)
				}
				body := content
				if requests == 1 {
					w.Header().Set("Content-Length", fmt.Sprint(len(content)))
					_, _ = w.Write(content[:len(content)/2])
					panic(http.ErrAbortHandler)
				}
				if r.Header.Get("Range") != "" {
					ranges++
					if tc.refused {
						w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
						return
					}
				}
				if tc.changed {
					w.Header().Set("ETag", `"v2"`)
				}
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
			})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, content) {
				t.Errorf("got %d bytes that differ from the %d sent", len(got), len(content))
			}
			if ranges != tc.ranges {
				t.Errorf("%d requests asked for a range, want %d", ranges, tc.ranges)
			}
		})
	}
}

func TestFetchErrors(t *testing.T) {
	for _, tc := range []struct {
		status int
		kind   Kind
		text   string
	}{
		{http.StatusNotFound, NotFound, "/file.tar does not exist"},
		{http.StatusForbidden, Forbidden, "denies access"},
		{http.StatusInternalServerError, Server, "out of order"},
		{http.StatusTeapot, Protocol, "418"},
	} {
		_, err := fetchFrom(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(tc.status) })
		e := new(Error)
		if !errors.As(err, &e) || e.Kind != tc.kind || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("status %d: got %v, want kind %d with %q", tc.status, err, tc.kind, tc.text)
		}
	}
}
