package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"golang.org/x/sys/unix"

	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

// CopyOptions are the options of [Copy].
type CopyOptions struct {
	Options
	Recursive bool // directories are copied; links named as the source are too, instead of what they lead to
	Move      bool // the source is deleted afterwards, or renamed where that does
}

// Copy copies a file, or a directory with its content, as cp(1) does: into the
// destination when that is a directory, else under its name. Directories that are there
// already are merged into and keep their modes.
func Copy(ctx context.Context, from, to End, o CopyOptions) (Result, error) {
	follow := !o.Move && (!o.Recursive || leaves(from, to))
	s, err := find(from, follow)
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	if err := checkSource(s, follow, o); err != nil {
		return Result{}, err
	}
	d, err := findTarget(to, s)
	if err != nil {
		return Result{}, err
	}
	defer d.close()
	if err := checkPair(s, d); err != nil {
		return Result{}, err
	}
	if o.Move && !leaves(from, to) && !leavesStandIns(s, d) {
		moved, err := rename(s, d)
		if moved || err != nil {
			return Result{Renamed: moved}, err
		}
	}
	p := begin(ctx, from, to, rules{verb: "copied", temp: tempPrefix + "copy"}, o.Options)
	p.progress("Copying "+path.Base(s.String()), s, o.Options)
	p.top(s, d)
	result, err := p.end()
	if o.Move {
		err = removeMoved(s, result, err)
	}
	return result, err
}

// leaves reports whether a transfer takes something out of a container. A link that was
// named as the source is followed then: a guest's link on the host, under a name of the
// user's choice, would be followed by the host's rules when that name is written to again. And
// files lose setuid and setgid bits, which here would lend the identity of who copies.
func leaves(from, to End) bool { return from.Root != nil && to.Root == nil }

func checkSource(s *place, followed bool, o CopyOptions) error {
	switch mode := s.info.Mode; {
	case !s.exists:
		return fmt.Errorf("%s does not exist", s.end)
	case mode.IsDir() && o.Move && (s.base == "" || dotted(s.end.Path)):
		return fmt.Errorf("%s cannot be moved: name the directory", s.end)
	case mode.IsDir() && !o.Recursive:
		return &DirectoryError{Path: s.end.String()}
	case mode&fs.ModeSymlink != 0 && followed && !s.standIn():
		return fmt.Errorf("%s is a link that leads nowhere", s.end)
	case mode.IsDir() || mode.IsRegular() || mode&fs.ModeSymlink != 0:
		return nil
	}
	return fmt.Errorf("%s is %s: only files, directories and links are copied", s.end, kind(s.info.Mode))
}

// DirectoryError says that a directory needs to be copied recursively.
type DirectoryError struct{ Path string }

func (e *DirectoryError) Error() string { return e.Path + " is a directory" }

// findTarget finds what a copy of s at the destination is called.
func findTarget(to End, s *place) (*place, error) {
	followed := true
	d, err := find(to, followed)
	if err != nil {
		return nil, err
	}
	into := s.base
	if dotted(s.end.Path) {
		into = "" // "dir/." is what is in it
	}
	if d.exists && d.info.Mode.IsDir() && into != "" {
		d.close()
		to.Path = path.Join(d.real, into)
		followed = to.Root != nil // see leaves
		if d, err = find(to, followed); err != nil {
			return nil, err
		}
	}
	if err := checkTarget(to, followed, s, d); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func checkTarget(to End, followed bool, s, d *place) error {
	mode, isDir := d.info.Mode, s.info.Mode.IsDir()
	switch {
	case !d.exists && !isDir && slashed(to.Path):
		return fmt.Errorf("%s does not exist, so nothing can be copied into it", to)
	case !d.exists, same(s, d):
		return nil // checkPair has more to say of the latter
	case isDir && !mode.IsDir():
		return fmt.Errorf("%s is not a directory: a directory cannot take its place", d)
	case isDir:
		return nil
	case mode.IsDir():
		return fmt.Errorf("%s is a directory: a file cannot take its place", d)
	case mode&fs.ModeSymlink != 0 && followed && s.info.Mode&fs.ModeSymlink == 0 && !d.standIn():
		return fmt.Errorf("%s is a link that leads nowhere: remove it or name another destination", d)
	case mode.IsRegular() || mode&fs.ModeSymlink != 0:
		return nil
	}
	return fmt.Errorf("%s is %s: only files are overwritten", d, kind(mode))
}

// checkPair refuses copies onto and into themselves.
func checkPair(s, d *place) error {
	if same(s, d) {
		return fmt.Errorf("%s and %s are the same", s, d)
	}
	if !s.info.Mode.IsDir() {
		return nil
	}
	inside, err := within(d.dir, s.info)
	if err != nil {
		return fmt.Errorf("open %s: %w", d, err)
	}
	if inside {
		return fmt.Errorf("%s lies in %s: a directory cannot be copied into itself", d, s)
	}
	return nil
}

// rename moves by rename(2); false when that takes a copy.
func rename(s, d *place) (bool, error) {
	n := &node{dst: d.dir, old: statDir(d.dir)}
	err := n.change(func() error { return s.dir.Rename(s.base, d.dir, d.base) })
	if n.wide {
		_ = unix.Fchmodat(d.dir.Fd(), ".", rootfs.UnixMode(n.old.Mode), 0) // as it was
	}
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EXDEV), errors.Is(err, fs.ErrExist):
		return false, nil // another file system, or a directory to merge into
	}
	return false, fmt.Errorf("move %s to %s: %w", s, d, report.Cause(err))
}

// removeMoved deletes the source of a move that left nothing behind.
func removeMoved(s *place, r Result, err error) error {
	var incomplete *IncompleteError
	if errors.As(err, &incomplete) || err == nil && r.Skipped > 0 {
		kept := &IncompleteError{Count: r.Skipped, Kept: true}
		if incomplete != nil {
			kept.Count += incomplete.Count
		}
		return kept
	}
	if err != nil {
		return err
	}
	if err := s.dir.RemoveAll(s.base, rootfs.RemoveOptions{}); err != nil {
		return fmt.Errorf("everything is copied, but %s cannot be deleted: %w", s, report.Cause(err))
	}
	return nil
}

// top copies the source itself.
func (p *pass) top(s, d *place) {
	n := &node{src: s.dir, dst: d.dir, lent: true, old: statDir(d.dir)}
	n.shares.Store(1)
	defer p.release(n)
	if s.base != "" && d.base != "" {
		p.entry(n, rootfs.Entry{Name: s.base, Type: s.info.Mode.Type()}, d.base, true)
		return
	}
	child := &node{final: s.info, attrs: true}
	var err error
	if child.src, err = reopen(s); err != nil {
		p.miss("open", s.String(), err)
		return
	}
	switch {
	case d.base != "":
		if !p.makeDir(n, child, d.base, true) {
			child.src.Close()
			return
		}
	default:
		child.old, child.attrs = d.info, p.compare
		if child.dst, err = reopen(d); err != nil {
			p.fail("open", d.String(), err)
			child.src.Close()
			return
		}
	}
	child.shares.Store(1)
	p.walk(child)
}

// reopen opens the directory that a place is.
func reopen(at *place) (*rootfs.Dir, error) {
	if at.base != "" {
		return at.dir.OpenDir(at.base)
	}
	root, err := at.tree()
	if err != nil {
		return nil, err
	}
	if at.end.Root == nil {
		defer root.Close()
	}
	return root.OpenDir("/")
}

// progress begins the line that shows how far the pass has come.
func (p *pass) progress(label string, s *place, o Options) {
	if o.NoProgress {
		return
	}
	task := report.Task{Label: label, Unit: report.Bytes}
	switch {
	case s.info.Mode.IsRegular():
		task.Total = s.info.Size
	case s.info.Mode.IsDir() && o.Measure:
		if dir, err := reopen(s); err == nil {
			task.Total = p.measure(dir)
		}
	}
	p.meter = p.report.Begin(task)
}

// measure sums up the files in a directory, which it closes.
func (p *pass) measure(dir *rootfs.Dir) (total int64) {
	defer dir.Close()
	entries, _ := dir.ReadDir() // the walk will tell what cannot be read
	for _, e := range entries {
		if p.stopped() {
			break
		}
		switch {
		case e.Type.IsRegular():
			if info, err := dir.Lstat(e.Name); err == nil {
				total += info.Size
			}
		case e.Type.IsDir() && !p.hidden(dir, e.Name):
			if sub, err := dir.OpenDir(e.Name); err == nil {
				total += p.measure(sub)
			}
		}
	}
	return total
}
