package transfer

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"proot-distro/internal/l2s"
	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

// rules are what makes a walk a copy, a sync or a clone.
type rules struct {
	verb     string // "copied", for the list of entries
	temp     string // how temporary names begin; without one, files grow under their own names
	compare  bool   // what is up to date is left alone (sync)
	checksum bool   // and that is told by content
	clobber  bool   // a directory gives way to a file of its name
	faithful bool   // owners, extended attributes and hard links are kept, what is closed is opened (clone)
	relink   func(target string) string
}

// pass is one walk over a tree.
type pass struct {
	rules
	ctx    context.Context
	cancel context.CancelCauseFunc
	from   End
	to     End
	report report.Reporter
	meter  report.Meter

	uid, gid int // who owns the copies

	jobs    chan job
	start   sync.Once // of the workers
	workers sync.WaitGroup
	walkers chan struct{} // slots for further walks
	walking sync.WaitGroup

	copied, bytes, same, deleted, skipped, failed atomic.Int64
	temps                                         atomic.Int64
	noClone, noRange                              atomic.Bool // the file systems at hand cannot do that

	fromLinks, toLinks *l2s.Tree        // stand-ins of the two ends
	inodes             map[inode]copied // where hard-linked files were copied to
	buf                []byte           // for these
}

type inode struct{ dev, ino uint64 }

// job is a file to copy.
type job struct {
	n    *node
	name string // in n.src
	to   string // in n.dst
	// path is the file in the source tree that a stand-in means.
	path string
	old  *rootfs.Info // what stands at to, when it may be up to date
}

const (
	// queued bounds the files that wait, and with them the directories held open.
	queued   = 64
	fileSize = 256 << 10 // of a worker's buffer, in bytes
)

func begin(ctx context.Context, from, to End, r rules, o Options) *pass {
	p := &pass{rules: r, from: from, to: to, report: o.Report, jobs: make(chan job, queued),
		walkers: make(chan struct{}, runtime.NumCPU()-1), inodes: map[inode]copied{},
		uid: os.Geteuid(), gid: os.Getegid()}
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	p.fromLinks, p.toLinks = from.standIns(), to.standIns()
	p.meter = report.Discard.Begin(report.Task{})
	return p
}

// end waits for the workers and gives the outcome.
func (p *pass) end() (Result, error) {
	for _, first := range p.inodes {
		if first.n != nil {
			p.release(first.n)
		}
	}
	p.drain()
	p.meter.Done()
	err := context.Cause(p.ctx)
	p.cancel(nil)
	if failed := p.failed.Load(); err == nil && failed > 0 {
		err = &IncompleteError{Count: failed}
	}
	return Result{
		Copied: p.copied.Load(), Bytes: p.bytes.Load(), Same: p.same.Load(),
		Deleted: p.deleted.Load(), Skipped: p.skipped.Load(),
	}, err
}

// drain waits until all that was found is copied. A walk may follow.
func (p *pass) drain() {
	p.walking.Wait()
	close(p.jobs)
	p.workers.Wait()
	p.jobs, p.start = make(chan job, queued), sync.Once{}
}

// enqueue gives a file to a worker.
func (p *pass) enqueue(j job) {
	p.start.Do(func() {
		for range max(2, min(runtime.NumCPU(), 8)) {
			p.workers.Go(func() {
				buf := make([]byte, fileSize)
				for j := range p.jobs {
					p.file(j, buf)
					p.release(j.n)
				}
			})
		}
	})
	j.n.shares.Add(1)
	p.jobs <- j
}

// stopped reports whether the pass has failed or was cancelled.
func (p *pass) stopped() bool { return p.ctx.Err() != nil }

// fail ends the pass: the destination cannot be written.
func (p *pass) fail(verb, shown string, err error) {
	p.cancel(fmt.Errorf("%s %s: %w", verb, shown, report.Cause(err)))
}

// miss warns about an entry that is left out.
func (p *pass) miss(verb, shown string, err error) {
	if !p.stopped() {
		p.failed.Add(1)
		p.report.Warnf("cannot %s %s: %v", verb, shown, report.Cause(err))
	}
}

// node is a pair of directories.
type node struct {
	src, dst *rootfs.Dir
	lent     bool // they are not ours to close
	// shares counts the walk and the files that wait; whoever gives up the
	// last one finishes the directory.
	shares atomic.Int32

	mu       sync.Mutex
	wide     bool        // dst was made writable
	old      rootfs.Info // of dst, when it was there before
	fresh    bool        // it was not
	touched  atomic.Bool // something in dst was changed
	final    rootfs.Info // what dst gets when attrs is set
	attrs    bool
	closed   bool // dst will be closed to its owner, or a directory on the way to it
	reopened bool // src was made readable; final.Mode is its own
}

// release gives up a share of a node.
func (p *pass) release(n *node) {
	if n.shares.Add(-1) > 0 {
		return
	}
	if err := p.finish(n); err != nil {
		p.fail("write", p.to.at(n.dst.Path()), err)
	}
	if n.reopened {
		_ = unix.Fchmodat(n.src.Fd(), ".", rootfs.UnixMode(n.final.Mode), 0) // it was ours to open, so it is to close
	}
	if !n.lent {
		n.src.Close()
		n.dst.Close()
	}
}

// finish gives a directory its mode and time, or those back that it had.
func (p *pass) finish(n *node) error {
	mode := n.old.Mode
	if n.attrs {
		mode = p.keptMode(n.final)
		if n.fresh || n.touched.Load() || !n.old.MTime.Equal(n.final.MTime) {
			if err := setTime(n.dst.Fd(), ".", n.final.MTime); err != nil {
				return err
			}
		}
	}
	if !n.fresh && !n.wide && mode == n.old.Mode {
		return nil
	}
	return unix.Fchmodat(n.dst.Fd(), ".", rootfs.UnixMode(mode), 0)
}

// change runs something that changes n.dst, which is made writable if need be.
func (n *node) change(f func() error) error {
	err := f()
	if isPermission(err) && n.widen() {
		err = f()
	}
	if err == nil {
		n.touched.Store(true)
	}
	return err
}

// widen makes n.dst writable; whether it is worth another try.
func (n *node) widen() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.wide && !n.fresh && n.old.Mode.Perm()&0o700 != 0o700 {
		n.wide = unix.Fchmodat(n.dst.Fd(), ".", rootfs.UnixMode(n.old.Mode)|0o700, 0) == nil
	}
	return n.wide
}

// tempName is a name that nothing has, in the form of staleTemp.
func (p *pass) tempName() string {
	return fmt.Sprintf("%s.%d.%d", p.temp, os.Getpid(), p.temps.Add(1))
}
