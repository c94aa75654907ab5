package image

import (
	"errors"
	"io/fs"
	"path"
	"strings"
)

// Usage is what the cache holds, in bytes.
type Usage struct {
	Layers     int64 `json:"layers"`     // blobs
	Unfinished int64 `json:"unfinished"` // downloads that broke off, or go on now
	Unpacked   int64 `json:"unpacked"`   // layers, for builds
}

// Usage adds up what the cache holds. Nothing is changed, and no lock is taken: what others do meanwhile
// may be in it or not.
func (c *Cache) Usage() (u Usage, err error) {
	tree, err := c.open(false)
	if errors.Is(err, fs.ErrNotExist) {
		return u, nil
	} else if err != nil {
		return u, err
	}
	blobs, err := tree.ReadDir(c.layers)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return u, err
	}
	for _, e := range blobs {
		size := tree.Size(path.Join(c.layers, e.Name))
		if strings.HasSuffix(e.Name, ".part") {
			u.Unfinished += size
		} else {
			u.Layers += size
		}
	}
	trees, err := tree.ReadDir(treesDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return u, err
	}
	for _, e := range trees {
		if info, err := readTreeInfo(tree, path.Join(treesDir, e.Name)); err == nil {
			u.Unpacked += info.Size
		} else {
			u.Unpacked += tree.Size(path.Join(treesDir, e.Name)) // what a killed build left
		}
	}
	return u, nil
}
