package image

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"proot-distro/internal/oci"
	"proot-distro/internal/rootfs"
)

// ClearRequest says what of the cache to delete: all of it, or what its fields name.
type ClearRequest struct {
	// Orphans are layers and partial downloads that no cached image, no build step and
	// none of Used refers to, and what was unpacked of them.
	Orphans bool
	// Build is the index of build steps, the layers that only it refers to, and what was
	// unpacked.
	Build bool
	// Used are the records of containers: what they refer to is kept by the two above.
	Used []*oci.Record
	// Removed is told every deleted file, by its path in the cache.
	Removed func(name string)
}

// Clear deletes from the cache and returns the bytes freed, also when it fails. The error is [ErrBusy]
// while another command uses the cache. Nothing in the cache is trusted: links are deleted and not
// followed, and closed directories are opened.
func (c *Cache) Clear(req ClearRequest) (freed int64, err error) {
	tree, err := c.open(false)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	release, err := c.Lock(Exclusive)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, release()) }()
	dir, err := tree.OpenDir("/")
	if err != nil {
		return 0, fmt.Errorf("clear image cache: %w", err)
	}
	defer dir.Close()
	cl := &clearing{c: c, dir: dir, req: req}
	switch {
	case !req.Orphans && !req.Build:
		err = cl.everything()
	default:
		if req.Build {
			err = cl.buildSteps()
		}
		if err == nil && req.Orphans {
			err = cl.orphans()
		}
	}
	if err != nil {
		err = fmt.Errorf("clear image cache: %w", err)
	}
	return cl.freed, err
}

type clearing struct {
	c     *Cache
	dir   *rootfs.Dir // the cache's root
	req   ClearRequest
	freed int64
}

// everything deletes what names blobs before the blobs, and the lock last: whenever it ends, what
// is left is a sound cache.
func (cl *clearing) everything() error {
	entries, err := cl.dir.ReadDir()
	if err != nil {
		return err
	}
	last := func(name string) int {
		return slices.Index([]string{cl.c.layers, lockName}, name)
	}
	slices.SortStableFunc(entries, func(a, b rootfs.Entry) int { return last(a.Name) - last(b.Name) })
	var failed []error
	failed = append(failed, cl.trees(func(TreeInfo) bool { return true }))
	for _, e := range entries {
		failed = append(failed, cl.remove(cl.dir, e.Name))
	}
	return errors.Join(failed...)
}

// trees deletes the unpacked layers that doomed picks, and whatever is no tree.
func (cl *clearing) trees(doomed func(TreeInfo) bool) error {
	dir, err := cl.dir.OpenDir(treesDir)
	if err != nil {
		return nil // there are none; a link is deleted with the rest
	}
	defer dir.Close()
	tree, err := cl.c.open(false)
	if err != nil {
		return err
	}
	entries, err := dir.ReadDir()
	if err != nil {
		return err
	}
	var failed []error
	for _, e := range entries {
		if info, err := readTreeInfo(tree, path.Join(treesDir, e.Name)); err == nil && e.Name[0] != '.' && !doomed(info) {
			continue
		}
		size := dir.Size(e.Name)
		if err := dir.RemoveAll(e.Name, rootfs.RemoveOptions{}); err != nil {
			failed = append(failed, err)
			continue
		}
		cl.freed += size
		cl.req.Removed(path.Join(treesDir, e.Name))
	}
	return errors.Join(failed...)
}

// remove deletes an entry with all that is in it.
func (cl *clearing) remove(dir *rootfs.Dir, name string) error {
	size := dir.Size(name)
	err := dir.RemoveAll(name, rootfs.RemoveOptions{OnRemove: func(p string) {
		if name := strings.TrimPrefix(p, "/"); name != lockName {
			cl.req.Removed(name)
		}
	}})
	if err == nil && name != lockName { // which is ours, and nothing that was kept
		cl.freed += size
	}
	return err
}

// buildSteps forgets the build steps first: what an interruption leaves are orphans.
func (cl *clearing) buildSteps() error {
	built, indexErr := cl.c.builtBlobs()
	keep, err := cl.kept()
	if err != nil {
		return err
	}
	if err := cl.remove(cl.dir, buildIndex); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := cl.trees(func(TreeInfo) bool { return true }); err != nil {
		return err
	}
	if indexErr != nil {
		return fmt.Errorf("the index of build steps could not be read, so that it is deleted but its layers stay: %w", indexErr)
	}
	return cl.blobs(func(d digest.Digest) bool { return built[d] && !keep[d] })
}

func (cl *clearing) orphans() error {
	keep, err := cl.kept()
	if err != nil {
		return err
	}
	built, err := cl.c.builtBlobs()
	if err != nil {
		return fmt.Errorf("nothing is deleted, since build steps may use it: %w", err)
	}
	orphan := func(d digest.Digest) bool { return !keep[d] && !built[d] }
	err = cl.trees(func(t TreeInfo) bool { return slices.ContainsFunc(t.Layers, orphan) })
	return errors.Join(err, cl.blobs(orphan))
}

// kept are the blobs of cached images and of containers.
func (cl *clearing) kept() (map[digest.Digest]bool, error) {
	keep, err := cl.c.imageBlobs()
	if err != nil {
		return nil, err
	}
	for _, rec := range cl.req.Used {
		for _, d := range blobsOf(rec) {
			keep[d] = true
		}
	}
	return keep, nil
}

// blobs deletes the blobs, whole or partial, that doomed picks. Files of other names stay.
func (cl *clearing) blobs(doomed func(digest.Digest) bool) error {
	dir, err := cl.c.dir(cl.c.layers, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer dir.Close()
	entries, err := dir.ReadDir()
	if err != nil {
		return err
	}
	for _, e := range entries {
		hex, ok := strings.CutPrefix(strings.TrimSuffix(e.Name, ".part"), "sha256_")
		d := digest.NewDigestFromEncoded(digest.SHA256, hex)
		if !ok || d.Validate() != nil || !doomed(d) {
			continue
		}
		if err := cl.remove(dir, e.Name); err != nil {
			return err
		}
	}
	return nil
}
