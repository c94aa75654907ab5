package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"
	"time"

	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

// maxDownload bounds what ADD fetches, in bytes.
const maxDownload = 64 << 30

// downloaded is what ADD has fetched.
type downloaded struct {
	root     *rootfs.FS
	name     string
	size     int64
	modified time.Time // of Last-Modified, or zero
}

// download fetches a URL. checksum is "sha256:<hex>", or "".
func (s *stage) download(ctx context.Context, url, checksum string) (downloaded, error) {
	want, isSum := strings.CutPrefix(checksum, "sha256:")
	if checksum != "" && (!isSum || len(want) != 2*sha256.Size || strings.Trim(want, "0123456789abcdef") != "") {
		return downloaded{}, fmt.Errorf("ADD --checksum=%s: it must be sha256: and 64 lower-case hex digits", checksum)
	}
	root, err := s.scratch.tree("download")
	if err != nil {
		return downloaded{}, err
	}
	d := downloaded{root: root, name: "file"}
	sum := sha256.New()
	if err := s.get(ctx, url, &d, sum); err != nil {
		return downloaded{}, fmt.Errorf("fetch %s: %w", url, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); want != "" && got != want {
		return downloaded{}, fmt.Errorf("%s is not what --checksum asks for: its checksum is sha256:%s", url, got)
	}
	return d, nil
}

func (s *stage) get(ctx context.Context, url string, d *downloaded, sum hash.Hash) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "proot-distro/"+s.Version)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return causeOf(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answers %s", resp.Status)
	}
	if t, err := http.ParseTime(resp.Header.Get("Last-Modified")); err == nil {
		d.modified = t
	}
	meter := s.Report.Begin(report.Task{Label: "Fetching " + urlBase(url), Total: max(resp.ContentLength, 0)})
	defer meter.Done()
	body := io.TeeReader(report.Reader(resp.Body, meter), sum)
	d.size, err = writeStream(d.root, d.name, body, maxDownload)
	return err
}

// causeOf drops the method and the URL, which the sentence around it names.
func causeOf(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil || errors.Is(err, context.Canceled) {
			return err
		}
		if _, isURL := err.(interface{ Timeout() bool }); !isURL {
			return err
		}
		err = inner
	}
}
