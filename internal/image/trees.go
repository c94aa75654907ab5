package image

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"proot-distro/internal/rootfs"
)

// Unpacked layers, for builds: the directory build_trees/<chain ID> of the cache has the files of a tree, or the upper
// directory of an overlay over another tree, and tree.json. Nobody writes to its files any more once it has that name.
// Its blobs are in the cache as well, so that a tree can always be made again.
//
// A tree gets its name before it is on the disk, since to wait for that would take long. So it counts only until the
// system stops, which may be for lack of power: tree.json names the boot. The first build after the kernel
// has had the time to write it asks for that, in a moment, and marks the tree as synced.
const (
	treesDir   = "build_trees"
	treeFiles  = "files"
	treeInfo   = "tree.json"
	treeSynced = "synced"
	newTree    = ".new-" // while it is filled
	doomedTree = ".old-" // while it is deleted

	maxTreeInfo = 64 << 20 // bytes
	maxTrees    = 10 << 30 // bytes, of all trees together; those that were not used for the longest time go first
	// writtenBack is the age at which Linux has written a file by itself (vm.dirty_expire_centisecs), and some more.
	writtenBack = time.Minute
	// maxUnwritten is how much it may have to write, for other programs too, for a build to wait for that.
	maxUnwritten = 64 << 20 // bytes
)

// bootID differs each time that the system starts, see proc_sys_kernel(5). It is empty where nobody may know it.
var bootID = sync.OnceValue(func() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(bytes.TrimSpace(id))
})

// TreeInfo is what is known of a tree.
type TreeInfo struct {
	Below  digest.Digest   `json:"below,omitempty"` // chain ID of the tree that it changes; empty for a whole one
	Layers []digest.Digest `json:"layers"`          // blobs that it was made of, with those of the trees below
	Size   int64           `json:"size"`            // bytes of files
	Notes  json.RawMessage `json:"notes"`           // its maker's
}

// FindTree gives what is known of a tree, and its files. The error is fs.ErrNotExist when there is none. The caller
// holds the cache's lock, [Shared], as long as it uses them.
func (c *Cache) FindTree(chain digest.Digest) (info TreeInfo, files *rootfs.FS, err error) {
	if chain.Validate() != nil {
		return info, nil, fs.ErrNotExist
	}
	tree, err := c.open(false)
	if err != nil {
		return info, nil, err
	}
	name := path.Join(treesDir, chain.Encoded())
	if info, err = readTreeInfo(tree, name); err != nil {
		return info, nil, err
	}
	files, err = rootfs.OpenState(c.base, filepath.Join(c.path, name, treeFiles), false)
	if err != nil {
		return info, nil, fmt.Errorf("open unpacked layers: %w", err)
	}
	_ = tree.Chtimes(name, time.Now()) // at worst it is deleted earlier
	return info, files, nil
}

// treeRecord is the content of tree.json.
type treeRecord struct {
	TreeInfo
	Boot string `json:"boot"` // in which the tree was made
}

func readTreeInfo(tree *rootfs.FS, name string) (TreeInfo, error) {
	var rec treeRecord
	data, err := tree.ReadFile(path.Join(name, treeInfo), maxTreeInfo)
	if err == nil {
		err = json.Unmarshal(data, &rec)
	}
	if err == nil && (rec.Boot == "" || rec.Boot != bootID()) {
		_, err = tree.Lstat(path.Join(name, treeSynced))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("read unpacked layers: %w (%w)", err, fs.ErrNotExist) // as good as none
	}
	return rec.TreeInfo, err
}

// NewTree is a tree that grows.
type NewTree struct {
	Files, Work *rootfs.FS // of one file system; the latter is for overlays
	cache       *Cache
	name        string
}

// NewTree begins a tree, or something else that shall lie on the file system of trees. It is deleted by Close unless
// it was committed; what a killed process leaves, by TidyTrees.
func (c *Cache) NewTree() (t *NewTree, err error) {
	tree, err := c.open(true)
	if err != nil {
		return nil, err
	}
	t = &NewTree{cache: c, name: path.Join(treesDir, unique(newTree))}
	for _, dir := range []struct {
		name string
		fs   **rootfs.FS
	}{{treeFiles, &t.Files}, {"work", &t.Work}} {
		name := path.Join(t.name, dir.name)
		if err = tree.MkdirAll(name, 0o755); err == nil {
			*dir.fs, err = rootfs.OpenState(c.base, filepath.Join(c.path, name), false)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("unpack layers: %w", err), t.Close())
		}
	}
	return t, nil
}

// Commit gives the tree its name. If another process has made the same one meanwhile, that one stays.
func (t *NewTree) Commit(chain digest.Digest, info TreeInfo) error {
	tree, err := t.cache.open(true)
	if err != nil {
		return err
	}
	data, err := json.Marshal(treeRecord{info, bootID()})
	if err == nil {
		err = tree.WriteFile(path.Join(t.name, treeInfo), data, 0o600)
	}
	if err == nil {
		err = tree.RemoveAll(path.Join(t.name, "work"), rootfs.RemoveOptions{})
	}
	if err != nil {
		return fmt.Errorf("keep unpacked layers: %w", err)
	}
	name := path.Join(treesDir, chain.Encoded())
	for range 2 {
		if err = tree.Rename(t.name, name); err == nil {
			t.name = ""
			return nil
		}
		if other, otherErr := readTreeInfo(tree, name); otherErr == nil && other.Below == info.Below {
			return nil
		}
		// What has the name is of another boot, damaged, or lies over a tree that was deleted.
		_ = tree.Rename(name, path.Join(treesDir, unique(doomedTree)))
	}
	return fmt.Errorf("keep unpacked layers: %w", err)
}

// unique gives a name in treesDir that nothing has.
func unique(prefix string) string { return prefix + strings.ToLower(rand.Text()[:16]) }

// Close ends the use of a tree, which was committed or is deleted.
func (t *NewTree) Close() error {
	var errs []error
	for _, dir := range []*rootfs.FS{t.Files, t.Work} {
		if dir != nil {
			errs = append(errs, dir.Close())
		}
	}
	t.Files, t.Work = nil, nil
	if t.name != "" {
		tree, err := t.cache.open(true)
		if err == nil {
			err = tree.RemoveAll(t.name, rootfs.RemoveOptions{})
		}
		t.name = ""
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// TidyTrees is for the start of a build: it syncs trees of earlier ones, and deletes what killed builds have left of trees, and
// trees that were not used for the longest time when they take too much room. While the cache is in use it deletes
// nothing.
func (c *Cache) TidyTrees() error {
	var err error
	memory, _ := os.ReadFile("/proc/meminfo")
	if unwritten(string(memory)) < maxUnwritten { // else another build will
		err = c.syncTrees(time.Now().Add(-writtenBack))
	}
	return errors.Join(err, c.trimTrees(maxTrees))
}

// unwritten gives the bytes that all disks are behind, from the text of proc_meminfo(5).
func unwritten(memory string) (sum int64) {
	for line := range strings.Lines(memory) {
		var kib int64
		if name, value, _ := strings.Cut(line, ":"); name == "Dirty" || name == "Writeback" {
			_, _ = fmt.Sscanf(value, "%d kB", &kib) // 0 for what is none
		}
		sum += kib << 10
	}
	return sum
}

// syncTrees has the trees that were made before some time written to disk, where that is not known yet.
func (c *Cache) syncTrees(before time.Time) error {
	tree, entries, err := c.listTrees()
	if err != nil {
		return err
	}
	var marked []*rootfs.Dir
	for _, e := range entries {
		name := path.Join(treesDir, e.Name)
		made, err := tree.Lstat(path.Join(name, treeInfo))
		if err != nil || strings.HasPrefix(e.Name, ".") || made.MTime.After(before) {
			continue
		}
		if _, err := tree.Lstat(path.Join(name, treeSynced)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if _, err := readTreeInfo(tree, name); err != nil {
			continue // of another boot
		}
		// The mark goes to this one, were the name given to another tree meanwhile.
		if d, err := tree.OpenDir(name); err == nil {
			defer d.Close()
			marked = append(marked, d)
		}
	}
	if len(marked) == 0 {
		return nil
	}
	if err := marked[0].SyncFS(); err != nil {
		return fmt.Errorf("sync unpacked layers: %w", err)
	}
	for _, d := range marked {
		if err := d.WriteFile(treeSynced, nil, 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("sync unpacked layers: %w", err)
		}
	}
	return nil
}

// listTrees lists treesDir, which need not exist.
func (c *Cache) listTrees() (tree *rootfs.FS, entries []rootfs.Entry, err error) {
	if tree, err = c.open(false); err == nil {
		entries, err = tree.ReadDir(treesDir)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("look for unpacked layers: %w", err)
	}
	return tree, entries, nil
}

func (c *Cache) trimTrees(limit int64) error {
	doomed, err := c.treesToTrim(limit)
	if err != nil || len(doomed) == 0 {
		return err
	}
	release, err := c.Lock(Exclusive)
	if errors.Is(err, ErrBusy) {
		return nil
	} else if err != nil {
		return err
	}
	doomed, err = c.treesToTrim(limit)
	err = errors.Join(err, c.doom(doomed), release()) // others need not wait for the rest
	return errors.Join(err, c.removeTrees(doomed))
}

// treesToTrim names trees, and leftovers, below treesDir.
func (c *Cache) treesToTrim(limit int64) (doomed []string, err error) {
	tree, entries, err := c.listTrees()
	if err != nil {
		return nil, err
	}
	type known struct {
		name string
		used time.Time
		TreeInfo
	}
	var trees []known
	for _, e := range entries {
		name := path.Join(treesDir, e.Name)
		info, infoErr := readTreeInfo(tree, name)
		st, statErr := tree.Lstat(name)
		if infoErr != nil || statErr != nil || strings.HasPrefix(e.Name, ".") {
			doomed = append(doomed, e.Name)
			continue
		}
		trees = append(trees, known{e.Name, st.MTime, info})
	}
	slices.SortFunc(trees, func(a, b known) int { return cmp.Or(b.used.Compare(a.used), cmp.Compare(a.name, b.name)) })
	kept := map[string]bool{}
	var sum int64
	for _, t := range trees {
		sum += t.Size
		if sum > limit {
			doomed = append(doomed, t.name)
			continue
		}
		kept[t.name] = true
	}
	for before := len(doomed) + 1; before != len(doomed); { // one without those below is of no use
		before = len(doomed)
		for _, t := range trees {
			if kept[t.name] && t.Below != "" && !kept[t.Below.Encoded()] {
				kept[t.name] = false
				doomed = append(doomed, t.name)
			}
		}
	}
	return doomed, nil
}

// doom renames trees, so that nobody uses them while they are deleted.
func (c *Cache) doom(names []string) error {
	tree, err := c.open(false)
	if err != nil {
		return err
	}
	var errs []error
	for i, name := range names {
		if strings.HasPrefix(name, doomedTree) {
			continue
		}
		names[i] = unique(doomedTree)
		errs = append(errs, tree.Rename(path.Join(treesDir, name), path.Join(treesDir, names[i])))
	}
	return errors.Join(errs...)
}

func (c *Cache) removeTrees(names []string) error {
	tree, err := c.open(false)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, tree.RemoveAll(path.Join(treesDir, name), rootfs.RemoveOptions{}))
	}
	return errors.Join(errs...)
}
