package build

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"archive/tar"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"proot-distro/internal/build/layout"
	"proot-distro/internal/compression"
	"proot-distro/internal/layer"
)

func (s *stage) add(ctx context.Context, c *instructions.AddCommand, header string) error {
	step := &copyStep{
		c: c, verb: "ADD", operands: c.SourcesAndDest, chown: c.Chown, chmod: c.Chmod, link: c.Link,
		patterns: c.ExcludePatterns, checksum: c.Checksum, unpack: c.Unpack, keepGit: c.KeepGitDir,
	}
	if step.checksum != "" && (len(step.operands.SourcePaths) != 1 || !isRemote(step.operands.SourcePaths[0])) {
		return errors.New("ADD --checksum is for a single source, fetched by URL or git")
	}
	return s.copyStep(ctx, step, header)
}

// unpacks reports whether ADD unpacks what a local source brought: a file that is a tar archive,
// compressed or not.
func (step *copyStep) unpacks(b *layout.Batch) bool {
	wanted := step.verb == "ADD"
	if step.unpack != nil {
		wanted = *step.unpack
	}
	return wanted && b.File() != nil && isArchive(b.File())
}

// isArchive looks whether a file begins with a tar header once it is decompressed.
func isArchive(f *layout.File) bool {
	r, err := f.Open()
	if err != nil {
		return false
	}
	defer r.Close()
	plain, err := compression.NewReader(r)
	if err != nil {
		return false
	}
	defer plain.Close()
	_, err = tar.NewReader(plain).Next()
	return err == nil
}

// unpackArchive puts an archive's content in the place of the archive.
func (s *stage) unpackArchive(ctx context.Context, b *layout.Batch) (*layout.Batch, error) {
	f := b.File()
	root, err := s.scratch.tree("archive")
	if err != nil {
		return nil, err
	}
	r, err := f.Open()
	if err != nil {
		return nil, f.Failed(err)
	}
	defer r.Close()
	var who layout.Owners
	_, err = layer.Unpack(ctx, root, r, layer.Options{
		OnEntry: who.Learn,
		OnSkip:  func(name, reason string) { s.Report.Detailf("%s: left out %s: %s", f.Name, name, reason) },
	})
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", f.Name, err)
	}
	src := s.newSource(layout.Source{Root: root, Owners: &who, What: "archive " + f.Name})
	unpacked, err := src.Collect(ctx, "", nil)
	if err != nil {
		return nil, err
	}
	unpacked.Into = true
	return unpacked, nil
}

// isRemote reports whether a source of ADD is fetched from elsewhere.
func isRemote(word string) bool {
	return strings.HasPrefix(word, "http://") || strings.HasPrefix(word, "https://") || isGit(word)
}

// fetchRemote fetches a source of ADD.
func (s *stage) fetchRemote(ctx context.Context, step *copyStep, word string) (*layout.Batch, error) {
	if isGit(word) {
		return s.fetchGit(ctx, step, word)
	}
	f, err := s.download(ctx, word, step.checksum)
	if err != nil {
		return nil, err
	}
	b := layout.Single(urlBase(word), f)
	if step.unpack != nil && step.unpacks(b) {
		return s.unpackArchive(ctx, b)
	}
	if b.Name == "" && isDirWord(step.operands.DestPath) {
		return nil, fmt.Errorf("ADD %s: its end is no file name: write the destination with one", word)
	}
	return b, nil
}
