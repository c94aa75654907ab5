package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"proot-distro/internal/build/layout"
	"proot-distro/internal/dockerfile"
	"proot-distro/internal/guest"
	"proot-distro/internal/rootfs"
)

// copyStep is a COPY or an ADD.
type copyStep struct {
	c        instructions.Command
	verb     string
	operands instructions.SourcesAndDest
	from     string
	chown    string
	chmod    string
	link     bool
	parents  bool
	exclude  *dockerfile.Ignore
	patterns []string
	checksum string
	unpack   *bool // ADD --unpack
	keepGit  *bool

	change layout.Chmod
}

func (s *stage) copy(ctx context.Context, c *instructions.CopyCommand, header string) error {
	step := &copyStep{
		c: c, verb: "COPY", operands: c.SourcesAndDest, from: c.From, chown: c.Chown, chmod: c.Chmod,
		link: c.Link, parents: c.Parents, patterns: c.ExcludePatterns,
	}
	for _, word := range c.SourcePaths {
		if isRemote(word) {
			return fmt.Errorf("COPY %s: only ADD fetches from elsewhere", word)
		}
	}
	return s.copyStep(ctx, step, header)
}

func (s *stage) copyStep(ctx context.Context, step *copyStep, header string) error {
	var err error
	if step.change, err = layout.ParseChmod(step.chmod); err != nil {
		return err
	}
	if step.exclude, err = dockerfile.NewIgnore("--exclude", step.patterns); err != nil {
		return err
	}
	if step.link && step.chown != "" && strings.Trim(step.chown, "0123456789:") != "" {
		return fmt.Errorf("--chown=%s: with --link the image's users are not known: give numbers", step.chown)
	}
	r := s.copyRecipe(step)
	history := step.history()
	// What the layers of another stage say is enough, as long as they are the same.
	quick, err := s.quickKey(ctx, step, r)
	if err != nil {
		return err
	}
	if quick != "" {
		if _, hit := s.cached(quick); hit {
			return s.layerStep(header, quick, history, nil)
		}
	}
	batches, err := s.gather(ctx, step)
	if err != nil {
		return err
	}
	for _, b := range batches {
		sum, err := b.Digest(ctx)
		if err != nil {
			return err
		}
		r.Sources = append(r.Sources, sum)
	}
	key := r.key()
	err = s.layerStep(header, key, history, func() (stepEntry, error) { return s.writeCopy(ctx, step, batches) })
	if err == nil && quick != "" {
		if e, ok := s.steps.find(key, s.Cache); ok {
			err = s.steps.record(quick, e)
		}
	}
	return err
}

func (s *stage) copyRecipe(step *copyStep) recipe {
	dest := step.operands.DestPath
	r := recipe{
		Parent: s.tree.chain(), Arch: s.arch, Step: step.verb, Epoch: epochSeconds(s.req.Epoch),
		Dest: s.workdirOf(dest), Chown: step.chown, Chmod: step.chmod,
	}
	if isDirWord(dest) {
		r.Dest += "/"
	}
	if step.link {
		r.Parent = ""
		r.Flags = append(r.Flags, "link")
	}
	if step.parents {
		r.Flags = append(r.Flags, "parents")
	}
	return r
}

// isDirWord reports whether a destination is written as a directory.
func isDirWord(word string) bool {
	return word == "" || word == "." || word == ".." || strings.HasSuffix(word, "/") ||
		strings.HasSuffix(word, "/.") || strings.HasSuffix(word, "/..")
}

// quickKey is the key of a copy out of a stage or an image whose files need not be looked at; ""
// for other copies.
func (s *stage) quickKey(ctx context.Context, step *copyStep, r recipe) (string, error) {
	if step.from == "" || len(step.operands.SourceContents) > 0 {
		return "", nil
	}
	from, err := s.origin(ctx, step.from)
	if err != nil {
		return "", err
	}
	if from.identity() == "" {
		return "", nil
	}
	r.Sources = append([]string{from.identity()}, step.operands.SourcePaths...)
	r.Flags = append(append([]string{"by layers"}, r.Flags...), step.patterns...)
	return r.key(), nil
}

// history is what `docker history` shows.
func (step *copyStep) history() string {
	words := []string{step.verb}
	if step.parents {
		words = append(words, "--parents")
	}
	if step.chown != "" {
		words = append(words, "--chown="+step.chown)
	}
	if step.chmod != "" {
		words = append(words, "--chmod="+step.chmod)
	}
	words = append(words, step.operands.SourcePaths...)
	for _, doc := range step.operands.SourceContents {
		words = append(words, "<<"+doc.Path)
	}
	return strings.Join(append(words, step.operands.DestPath), " ")
}

// gather finds everything that is to be copied.
func (s *stage) gather(ctx context.Context, step *copyStep) ([]*layout.Batch, error) {
	var batches []*layout.Batch
	if len(step.operands.SourcePaths) > 0 {
		src, err := s.sourceOf(ctx, step)
		if err != nil {
			return nil, err
		}
		for _, word := range step.operands.SourcePaths {
			got, err := s.gatherWord(ctx, step, src, word)
			if err != nil {
				return nil, err
			}
			batches = append(batches, got...)
		}
	}
	for _, doc := range step.operands.SourceContents {
		f := layout.File{Mode: 0o644, Size: int64(len(doc.Data)), Data: []byte(doc.Data)}
		batches = append(batches, layout.Single(path.Base("/"+doc.Path), f))
	}
	return batches, nil
}

func (s *stage) sourceOf(ctx context.Context, step *copyStep) (*layout.Source, error) {
	if step.from == "" {
		return s.contextSource()
	}
	from, err := s.origin(ctx, step.from)
	if err != nil {
		return nil, err
	}
	return from.open(ctx)
}

func (s *stage) gatherWord(ctx context.Context, step *copyStep, src *layout.Source, word string) ([]*layout.Batch, error) {
	if isRemote(word) {
		b, err := s.fetchRemote(ctx, step, word)
		return []*layout.Batch{b}, err
	}
	if src.Ignore != nil {
		s.file.LintIgnored(step.c, src.Ignore, word)
	}
	if step.parents {
		b, err := src.CollectParents(ctx, word, step.exclude)
		return []*layout.Batch{b}, err
	}
	names, err := src.Expand(word)
	if err != nil {
		return nil, err
	}
	var batches []*layout.Batch
	for _, name := range names {
		b, err := src.Collect(ctx, name, step.exclude)
		if err != nil {
			if layout.IsPattern(word) && errors.As(err, new(*layout.MissingError)) {
				continue
			}
			return nil, err
		}
		if step.unpacks(b) {
			if b, err = s.unpackArchive(ctx, b); err != nil {
				return nil, err
			}
		}
		batches = append(batches, b)
	}
	if len(batches) == 0 {
		s.Report.Warnf("%s %s: nothing in %s matches", step.verb, word, src.What)
	}
	return batches, nil
}

// writeCopy makes the layer.
func (s *stage) writeCopy(ctx context.Context, step *copyStep, batches []*layout.Batch) (stepEntry, error) {
	dest := step.operands.DestPath
	d := &layout.Destination{Typed: dest, Path: s.workdirOf(dest), Slash: isDirWord(dest), Several: len(batches) > 1}
	if !step.link {
		root, err := s.tree.open(ctx)
		if err != nil {
			return stepEntry{}, err
		}
		d.Root, d.Owners = root, &s.tree.owners
	}
	who, err := s.chownOf(step.chown, d.Root)
	if err != nil {
		return stepEntry{}, err
	}
	var created layout.Owner
	if who != nil {
		created = *who
	}
	l := layout.Layout{}
	for _, b := range batches {
		if who != nil {
			b.SetOwner(*who)
		}
		if step.change != nil {
			b.Chmod(step.change)
		}
		if err := d.Place(l, b, created); err != nil {
			return stepEntry{}, err
		}
	}
	return s.addLayout(ctx, l)
}

// addLayout makes a layer of a layout.
func (s *stage) addLayout(ctx context.Context, l layout.Layout) (stepEntry, error) {
	if len(l) == 0 {
		return s.outcome(), nil
	}
	times := layout.Times{Epoch: s.req.Epoch, Now: s.started}
	return s.addLayer(ctx, func(w io.Writer) error { return l.Pack(ctx, w, times) })
}

// outcome is that of a step without a layer.
func (s *stage) outcome() stepEntry {
	return stepEntry{Created: time.Now().UTC().Format(time.RFC3339Nano), ConfigPatch: []byte("null")}
}

func (s *stage) addLayer(ctx context.Context, write func(io.Writer) error) (stepEntry, error) {
	desc, diffID, err := s.Cache.AddLayer(ctx, write)
	if err != nil {
		return stepEntry{}, err
	}
	e := s.outcome()
	e.LayerDigest, e.DiffID, e.Size = desc.Digest, diffID, desc.Size
	return e, nil
}

// chownOf reads --chown=USER[:GROUP], names looked up in the image. A number alone is the group's too.
func (s *stage) chownOf(text string, root *rootfs.FS) (*layout.Owner, error) {
	if text == "" {
		return nil, nil
	}
	user, group, hasGroup := strings.Cut(text, ":")
	if user == "" {
		user = "0"
	}
	uid, uidErr := strconv.ParseUint(user, 10, 31)
	if !hasGroup && uidErr == nil {
		return &layout.Owner{UID: int(uid), GID: int(uid)}, nil
	}
	if gid, err := strconv.ParseUint(group, 10, 31); err == nil && uidErr == nil {
		return &layout.Owner{UID: int(uid), GID: int(gid)}, nil
	}
	if root == nil {
		return nil, fmt.Errorf("--chown=%s: ids are numbers from 0 to 2147483647", text)
	}
	if hasGroup {
		user += ":" + group
	}
	u, err := guest.LookupUser(root, user)
	if err != nil {
		return nil, fmt.Errorf("--chown=%s: %w", text, err)
	}
	return &layout.Owner{UID: u.UID, GID: u.GID}, nil
}
