package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestRemoveAll(t *testing.T) {
	dir := tree(t, "x/a/b/f=1", "x/a/l->/", "x/a/up->../../keep", "x/g=2", "keep/k=3", "tofile->keep")
	fsys := open(t, dir, GuestLinks)
	var removed []string
	check(t, fsys.RemoveAll("x", RemoveOptions{OnRemove: func(path string) { removed = append(removed, path) }}))
	slices.Sort(removed)
	want := []string{"/x", "/x/a", "/x/a/b", "/x/a/b/f", "/x/a/l", "/x/a/up", "/x/g"}
	if diff := cmp.Diff(want, removed); diff != "" {
		t.Error(diff)
	}
	check(t, fsys.RemoveAll("tofile", RemoveOptions{}))
	check(t, fsys.RemoveAll("missing", RemoveOptions{}))
	check(t, fsys.RemoveAll("missing/too", RemoveOptions{}))
	if _, err := fsys.Lstat("keep/k"); err != nil {
		t.Error(err)
	}
}

func TestRemoveAllStops(t *testing.T) {
	files := []string{"x/a/1=", "x/a/2=", "x/b/3=", "x/b/4=", "x/c/5="}
	enough := errors.New("enough")
	for after := range 9 {
		dir := tree(t, files...)
		asked, removed := 0, 0
		err := open(t, dir, GuestLinks).RemoveAll("x", RemoveOptions{
			OnRemove: func(string) { removed++ },
			Stop: func() error {
				if asked++; asked > after {
					return enough
				}
				return nil
			},
		})
		left := -1 // x itself, when it is there
		check(t, filepath.WalkDir(dir, func(string, fs.DirEntry, error) error { left++; return nil }))
		// x has nine entries, itself included: all but x are asked for.
		if stopped := after < 8; stopped != errors.Is(err, enough) || !stopped && err != nil || removed > after+1 || removed+left != 9 {
			t.Errorf("after %d: %d removed, %d left, %v", after, removed, left, err)
		}
	}
}

func TestRemoveAllUnreadable(t *testing.T) {
	if !asUser(t) {
		return
	}
	dir := tree(t, "x/none/d/f=1", "x/none/g=1", "x/list/f=1", "x/list/d/f=1", "x/enter/d/f=2", "x/write/f=3")
	for _, m := range []struct { // inner ones first
		name string
		mode fs.FileMode
	}{
		{"none/d", 0}, {"none/g", 0}, {"none", 0}, {"list/d", 0o400}, {"list", 0o400},
		{"enter/d", 0o100}, {"enter", 0o100}, {"write", 0o200}, {".", 0},
	} {
		check(t, os.Chmod(filepath.Join(dir, "x", m.name), m.mode))
	}
	fsys := open(t, dir, GuestLinks)
	check(t, fsys.RemoveAll("x", RemoveOptions{}))
	if _, err := fsys.Lstat("x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
}

// What cannot be removed is reported once, by its own path; the rest goes.
func TestRemoveAllReports(t *testing.T) {
	if !asUser(t) {
		return
	}
	dir := tree(t, "x/a/f=1", "x/b/f=1", "parent/y/f=1")
	check(t, os.Chmod(filepath.Join(dir, "parent"), 0o500))
	defer os.Chmod(filepath.Join(dir, "parent"), 0o700)
	fsys := open(t, dir, GuestLinks)
	err := fsys.RemoveAll("parent/y", RemoveOptions{})
	var pe *fs.PathError
	if !errors.As(err, &pe) || pe.Path != "/parent/y" || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v", err)
	}
	if info, _ := fsys.Lstat("parent"); info.Mode.Perm() != 0o500 {
		t.Errorf("a directory that is not removed was changed: %v", info.Mode)
	}
}

func TestRemoveAllDeep(t *testing.T) {
	const depth = 5000
	dir := tree(t, "x/side/f=1", "x/.pd-removed-0=taken")
	fd, err := unix.Open(filepath.Join(dir, "x"), unix.O_PATH, 0)
	check(t, err)
	for i := range depth {
		check(t, unix.Mkdirat(fd, "dir", 0o755))
		if i%10 == 0 {
			check(t, unix.Symlinkat("/", fd, fmt.Sprintf("link%d", i)))
		}
		next, err := unix.Openat(fd, "dir", unix.O_PATH, 0)
		check(t, err)
		check(t, unix.Close(fd))
		fd = next
	}
	check(t, unix.Close(fd))
	var limit unix.Rlimit
	check(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	low := limit
	low.Cur = 128
	check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)

	fsys := open(t, dir, GuestLinks)
	seen, deepest := 0, 0
	check(t, fsys.RemoveAll("x", RemoveOptions{OnRemove: func(path string) {
		seen++
		deepest = max(deepest, strings.Count(path, "/dir"))
	}}))
	if want := depth + depth/10 + 4; seen != want || deepest != depth {
		t.Errorf("reported %d paths, the deepest %d; want %d, %d", seen, deepest, want, depth)
	}
	if _, err := fsys.Lstat("x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
}

// A mount point and what is mounted there survive.
func TestRemoveAllMount(t *testing.T) {
	dir := tree(t, "x/mnt/", "x/f=1", "home/precious=1")
	mnt := filepath.Join(dir, "x/mnt")
	if err := unix.Mount(filepath.Join(dir, "home"), mnt, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("mounting needs root: %v", err)
	}
	defer unix.Unmount(mnt, unix.MNT_DETACH)
	fsys := open(t, dir, GuestLinks)
	if err := fsys.RemoveAll("x", RemoveOptions{}); !errors.Is(err, unix.EBUSY) {
		t.Errorf("got %v", err)
	}
	if _, err := fsys.Lstat("home/precious"); err != nil {
		t.Error(err)
	}
	if _, err := fsys.Lstat("x/f"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the rest stayed: %v", err)
	}
}
