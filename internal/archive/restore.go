package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"proot-distro/internal/compression"
	"proot-distro/internal/container"
	"proot-distro/internal/layer"
	"proot-distro/internal/oci"
	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

// RestoreRequest is what `restore` was asked for.
type RestoreRequest struct {
	Source     io.Reader
	Size       int64  // of Source, in bytes; 0 when not known
	Name       string // the container's new name; empty keeps the archive's
	Containers string // host path of the directory of containers
	Store      *container.Store
	Report     report.Reporter
	// Owners says whose files are restored: those that the archive names, nobody's but root's,
	// or what the archive says about it.
	Owners Owners
	// AllIDs says that this process may give files to other owners.
	AllIDs bool
}

// Owners are wishes for the owners of restored files.
type Owners int

const (
	AsArchived Owners = iota
	KeepOwners
	RootOwns
)

// Restore makes the containers that an archive holds, or none of them, and gives their names.
// Errors: [ErrNotBackup] and those of the store.
func Restore(ctx context.Context, req RestoreRequest) (names []string, err error) {
	if req.Name != "" {
		if err := container.ValidateName(req.Name); err != nil {
			return nil, err
		}
	}
	if err := req.Store.Sweep(); err != nil {
		req.Report.Warnf("leftovers of an earlier run could not be deleted: %v", err)
	}
	r := &restore{req: req, drafts: map[string]*draft{}}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.read(ctx); err != nil {
		return nil, err
	}
	if len(r.drafts) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrNotBackup)
	}
	return r.commit()
}

// restore is a restoration under way.
type restore struct {
	req    RestoreRequest
	drafts map[string]*draft // by the name in the archive
}

// draft is a container being restored.
type draft struct {
	old       *container.Container // what it replaces, or nil
	new       *container.Container
	tree      *rootfs.FS
	record    limited
	hasRootfs bool
	owners    bool
}

func (r *restore) read(ctx context.Context) error {
	meter := r.req.Report.Begin(report.Task{Label: "Restoring", Total: r.req.Size})
	defer meter.Done()
	source := interruptible(ctx, report.Reader(r.req.Source, meter))
	defer source.Close()
	plain, err := compression.NewReader(source)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("read archive: %w", err)
	}
	defer plain.Close()
	_, err = layer.Distribute(ctx, &wholeTar{src: plain}, layer.Options{
		OnSkip: func(name, reason string) { r.req.Report.Detailf("left out %s: %s", name, reason) },
	}, r.route)
	return err
}

// commit puts the new containers in their places, in the order of their names.
func (r *restore) commit() (names []string, err error) {
	for _, name := range slices.Sorted(maps.Keys(r.drafts)) {
		d := r.drafts[name]
		if !d.hasRootfs {
			return names, fmt.Errorf("%w: %s has no root filesystem in it", ErrNotBackup, name)
		}
		if err := d.setRecord(); err != nil {
			return names, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.drafts)) {
		d := r.drafts[name]
		if err := d.new.Commit(); err != nil {
			return names, err
		}
		names = append(names, d.new.Name)
	}
	return names, nil
}

func (d *draft) setRecord() error {
	if len(d.record.Bytes()) == 0 {
		return nil
	}
	record, err := oci.ParseRecord(d.record.Bytes())
	if err != nil {
		return fmt.Errorf("restore container %s: its manifest.json cannot be used: %w", d.new.Name, err)
	}
	return d.new.SetRecord(record)
}

// setOwners decides whose the files of a container are, at the first of them.
func (r *restore) setOwners(d *draft, hdr *tar.Header) error {
	if d.hasRootfs {
		return nil
	}
	d.hasRootfs = true
	d.owners = r.req.Owners == KeepOwners || r.req.Owners == AsArchived && hasOwners(hdr)
	switch {
	case !d.owners:
		return nil
	case !r.req.AllIDs:
		return fmt.Errorf("restore container %s: %w", d.new.Name, ErrOwners)
	}
	return d.new.SetAllIDs(true)
}

func hasOwners(hdr *tar.Header) bool { return hdr.PAXRecords[usernsKey] == usernsFull }

// HasOwners looks into a backup whether files of its first container have owners. What cannot be
// read is for [Restore] to tell.
func HasOwners(source io.Reader) bool {
	plain, err := compression.NewReader(source)
	if err != nil {
		return false
	}
	defer plain.Close()
	entries := tar.NewReader(io.LimitReader(plain, 2*oci.MaxRecordSize))
	for range 10 { // manifest.json, and directories above
		hdr, err := entries.Next()
		if err != nil {
			return false
		}
		if at, err := locate(hdr.Name); err != nil || at.container != "" && !at.isRecord {
			return err == nil && hasOwners(hdr)
		}
	}
	return false
}

// begin locks the container of this name in the archive and makes its draft.
func (r *restore) begin(name string) (d *draft, err error) {
	if d := r.drafts[name]; d != nil {
		return d, nil
	}
	as := name
	if r.req.Name != "" {
		if as = r.req.Name; len(r.drafts) > 0 {
			return nil, errors.New("the archive holds several containers: --name needs an archive with a single one")
		}
	}
	if err := container.ValidateName(as); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrNotBackup, err.Error()) // nobody has typed it
	}
	d = &draft{record: limited{max: oci.MaxRecordSize}}
	r.drafts[name] = d // from now on close sees to it
	if d.new, err = r.req.Store.Create(as, "restore"); err != nil {
		exists := new(container.ExistsError)
		if !errors.As(err, &exists) {
			return nil, err
		}
		if d.old, err = r.req.Store.Open(as, container.Exclusive, "restore"); err != nil {
			return nil, err
		}
		if d.new, err = d.old.Recreate(); err != nil {
			return nil, err
		}
	}
	d.tree, err = d.new.Rootfs()
	return d, err
}

// close gives up locks, and deletes what was not committed or has been replaced.
func (r *restore) close() error {
	var errs []error
	for _, d := range r.drafts {
		if d.tree != nil {
			errs = append(errs, d.tree.Close())
		}
		if d.new != nil {
			errs = append(errs, d.new.Close())
		}
		if d.old != nil {
			errs = append(errs, d.old.Close())
		}
	}
	return errors.Join(errs...)
}

// interruptible gives what src gives until ctx is done, also while a Read of src blocks, as on a
// pipe whose other end waits for a passphrase. That Read may then go on.
func interruptible(ctx context.Context, src io.Reader) io.ReadCloser {
	out, in := io.Pipe()
	stop := context.AfterFunc(ctx, func() { out.CloseWithError(ctx.Err()) })
	go func() {
		defer stop()
		_, err := io.CopyBuffer(in, src, make([]byte, sourceBuffer))
		in.CloseWithError(err)
	}()
	return out
}

const sourceBuffer = 128 << 10

// wholeTar refuses an archive that lacks the mark of its end, two blocks of zeros: one that was
// cut off between two entries looks complete otherwise.
type wholeTar struct {
	src   io.Reader
	zeros int // at the end of what was read
}

const endMark = 1024

func (w *wholeTar) Read(p []byte) (int, error) {
	n, err := w.src.Read(p)
	if kept := len(bytes.TrimRight(p[:n], "\x00")); kept > 0 {
		w.zeros = n - kept
	} else {
		w.zeros = min(w.zeros+n, endMark)
	}
	if err == io.EOF && w.zeros < endMark {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// limited collects a small file.
type limited struct {
	bytes.Buffer
	max int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > l.max {
		return 0, fmt.Errorf("it is larger than %d MiB", l.max>>20)
	}
	return l.Buffer.Write(p)
}
