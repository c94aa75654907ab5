package build

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"
)

// owner is a user and a group of the image.
type owner struct{ uid, gid int }

// owners are the entries of a tree, by guest path without links, that do not belong to root. On
// disk all files are the caller's.
type owners map[string]owner

// MarshalJSON makes {"/path": [uid, gid]}.
func (o owners) MarshalJSON() ([]byte, error) {
	plain := make(map[string][2]int, len(o))
	for name, who := range o {
		plain[name] = [2]int{who.uid, who.gid}
	}
	return json.Marshal(plain)
}

// parseOwners reads what MarshalJSON made.
func parseOwners(data []byte) (owners, error) {
	var plain map[string][2]int
	if err := json.Unmarshal(data, &plain); err != nil {
		return nil, fmt.Errorf("read owners: %w", err)
	}
	o := make(owners, len(plain))
	for name, who := range plain {
		o[name] = owner{who[0], who[1]}
	}
	return o, nil
}

// set keeps the table small: most files are root's.
func (o owners) set(name string, who owner) {
	if who == (owner{}) {
		delete(o, name)
		return
	}
	o[name] = who
}

// header learns from a layer's entry what it does to the table. Directories and files that
// came through a link in a parent are missed: layers name them by their real paths.
func (o owners) header(h *tar.Header) {
	name := path.Clean("/" + h.Name)
	dir, base := path.Split(name)
	switch hidden, isWhiteout := strings.CutPrefix(base, ".wh."); {
	case base == ".wh..wh..opq":
		o.forget(strings.TrimSuffix(dir, "/"), false)
	case isWhiteout:
		o.forget(dir+hidden, true)
	case h.Typeflag == tar.TypeLink:
		o.set(name, o[path.Clean("/"+h.Linkname)])
	default:
		if h.Typeflag != tar.TypeDir {
			o.forget(name, true)
		}
		o.set(name, owner{h.Uid, h.Gid})
	}
}

// forget drops what is in a directory, and itself if asked.
func (o owners) forget(name string, self bool) {
	for known := range o {
		if known == name && self || strings.HasPrefix(known, name+"/") {
			delete(o, known)
		}
	}
}

// tap gives a reader of the same tar stream whose headers are learnt on the way. Call wait after
// the stream has been read to its end or dropped.
func (o owners) tap(stream io.Reader) (r io.Reader, wait func()) {
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		entries := tar.NewReader(pr)
		for {
			h, err := entries.Next()
			if err != nil {
				break // whoever applies the stream reports it
			}
			o.header(h)
		}
		_, _ = io.Copy(io.Discard, pr)
	}()
	return io.TeeReader(stream, pw), func() {
		pw.Close()
		<-done
	}
}
