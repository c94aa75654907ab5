package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/registry"
)

// imageScheme marks a --build-context that is an image.
const imageScheme = "docker-image://"

// fromImage starts a stage on an image of a registry or the cache.
func (s *stage) fromImage(ctx context.Context) error {
	if named, ok := s.req.Contexts[s.def.Base]; ok {
		return s.fromContext(ctx, named)
	}
	return s.pullBase(ctx, s.def.Base)
}

// fromContext starts a stage on what --build-context put in the place of its base.
func (s *stage) fromContext(ctx context.Context, where string) error {
	if ref, ok := strings.CutPrefix(where, imageScheme); ok {
		return s.pullBase(ctx, ref)
	}
	return fmt.Errorf("--build-context %s: a directory can be the source of COPY --from and of mounts, not the base of a stage; "+
		"for an image write %sREFERENCE", s.def.Base, imageScheme)
}

func (s *stage) pullBase(ctx context.Context, typed string) error {
	s.Report.Infof("[%s] FROM %s", s.position(), typed)
	t, rec, err := s.pull(ctx, typed, s.arch)
	if err != nil {
		return err
	}
	s.tree = t
	if ref, err := oci.ParseRef(typed); err == nil {
		s.origins = append([]oci.Ref{ref}, rec.Origins()...)
	}
	img, err := rec.Image()
	if err != nil {
		return err
	}
	if got, ok := platform.FromOCI(img.Architecture, img.Variant); ok && got != s.arch {
		s.file.LintBase(s.def, s.arch.Docker(), got.Docker())
	}
	return s.adopt(rec.Config)
}

// pull gives an image's tree. Its layers may still be on their way.
func (s *session) pull(ctx context.Context, typed string, arch platform.Arch) (*tree, *oci.Record, error) {
	ref, err := oci.ParseRef(typed)
	if err != nil {
		return nil, nil, err
	}
	img, err := registry.Pull(ctx, registry.Request{
		Ref: ref, Typed: typed, Arch: arch, Cache: s.Cache, Insecure: s.Insecure, Auth: s.Auth,
		Version: s.Version, Report: s.Report, Refresh: s.req.Pull && !s.pulled[string(arch)+typed],
	})
	if err != nil {
		return nil, nil, err
	}
	s.pulled[string(arch)+typed] = true
	s.closers = append(s.closers, img.Close)
	config, err := img.Record.Image()
	if err != nil {
		return nil, nil, err
	}
	if len(config.RootFS.DiffIDs) != len(img.Layers) {
		return nil, nil, fmt.Errorf("image %s has %d layers but its config names %d", typed, len(img.Layers), len(config.RootFS.DiffIDs))
	}
	t := newTree(s)
	for i, blob := range img.Layers {
		t.add(builtLayer{blob, config.RootFS.DiffIDs[i]})
	}
	t.base = len(t.layers)
	return t, img.Record, nil
}

// imageTree is the tree of an image that files are copied from, pulled once for an architecture.
func (s *session) imageTree(ctx context.Context, typed string, arch platform.Arch) (*tree, error) {
	key := string(arch) + " " + typed
	if t := s.images[key]; t != nil {
		return t, nil
	}
	t, _, err := s.pull(ctx, typed, arch)
	if err != nil {
		return nil, err
	}
	s.images[key] = t
	return t, nil
}

// await waits until a layer is in the cache in full.
func (s *session) await(blob image.Blob) error {
	if s.Cache.Has(blob.Descriptor()) {
		return nil
	}
	r, err := blob.Open()
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}
