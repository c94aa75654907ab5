package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/opencontainers/go-digest"

	"proot-distro/internal/container"
	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/registry"
	"proot-distro/internal/rootfs"
)

// ResetRequest is what `reset` was asked for.
type ResetRequest struct {
	Name     string
	Arch     platform.Arch // where the container's record names none
	Insecure bool          // plain http and bad certificates are accepted
	Auth     registry.Auth
}

// NoImageError says that a container was not made from an image, so that there is nothing to
// reset it to.
type NoImageError struct{ Name string }

func (e *NoImageError) Error() string {
	return fmt.Sprintf("container %q cannot be reset: it was made from a plain root filesystem, not from an image", e.Name)
}

// Reset makes a container anew from the image that its record names. Until the new root
// filesystem is complete the old one stays in its place, and when a step fails it stays for
// good. Errors: [NoImageError] and those of the store, the cache and the registry.
func (in *Installer) Reset(ctx context.Context, req ResetRequest) (Result, error) {
	unlock, err := in.Cache.Lock(image.Shared)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = unlock() }()
	if err := in.Store.Sweep(); err != nil {
		in.Report.Warnf("leftovers of an earlier run could not be deleted: %v", err)
	}
	c, err := in.Store.Open(req.Name, container.Exclusive, "reset")
	if err != nil {
		return Result{}, err
	}
	defer c.Close()
	was, err := c.Record()
	if errors.Is(err, fs.ErrNotExist) {
		err = &NoImageError{req.Name}
	}
	if err != nil {
		return Result{}, err
	}
	draft, err := c.Recreate()
	if err != nil {
		return Result{}, err
	}
	defer draft.Close()
	in.Report.Infof("Resetting '%s' to %s…", req.Name, was.ImageRef)
	record, err := in.fill(draft, func(tree *rootfs.FS) (*image.Image, error) {
		img, err := in.recall(ctx, was, req)
		if err != nil {
			return nil, err
		}
		return img, in.unpackImage(ctx, tree, img)
	})
	if err != nil {
		return Result{}, err
	}
	return Result{Name: req.Name, Record: record}, draft.Commit()
}

// recall finds the image of a record again: the very same one in the cache or in the
// registry, else the one that has its name now.
func (in *Installer) recall(ctx context.Context, was *oci.Record, req ResetRequest) (*image.Image, error) {
	img, err := in.cached(was)
	if img != nil || err != nil {
		return img, err
	}
	ref, err := oci.ParseRef(was.ImageRef)
	if err != nil {
		return nil, fmt.Errorf("the image of container %q is not cached, and cannot be fetched: %s", req.Name, err.Error()) // nobody typed it now
	}
	pull := registry.Request{
		Ref: ref, Typed: was.ImageRef, Arch: was.Arch,
		Cache: in.Cache, Insecure: req.Insecure, Auth: req.Auth, Version: in.Version, Report: in.Report,
	}
	if pull.Arch == "" {
		pull.Arch = req.Arch
	}
	img, err = pullSame(ctx, was, pull)
	if missing := new(registry.Error); errors.As(err, &missing) && missing.Kind == registry.NotFound && ref.Digest == "" {
		img, err = registry.Pull(ctx, pull)
	}
	if err != nil {
		return nil, err
	}
	img.Record.ImageRef, img.Record.Extra = was.ImageRef, was.Extra
	if !sameConfig(was, img.Record) {
		in.Report.Warnf("%s is not the same image any more: '%s' becomes what it is now", was.ImageRef, req.Name)
	}
	return img, nil
}

// cached gives the image when all of it is cached, else nil.
func (in *Installer) cached(was *oci.Record) (*image.Image, error) {
	layers, err := was.Layers()
	if err != nil || was.Config == nil {
		return nil, err
	}
	img := &image.Image{Record: was}
	for _, d := range layers {
		if !in.Cache.Has(d) {
			return nil, nil
		}
		img.Layers = append(img.Layers, in.Cache.Blob(d))
	}
	return img, nil
}

// pullSame asks the registry for the image by its manifest's digest, which a tag that has moved on does
// not change.
func pullSame(ctx context.Context, was *oci.Record, req registry.Request) (*image.Image, error) {
	req.Ref.Digest = string(digest.FromBytes(was.Manifest))
	req.Typed = req.Ref.String()
	return registry.Pull(ctx, req)
}

// sameConfig reports whether two records are of the same image: a config names the layers'
// contents, so its digest stands for all of it.
func sameConfig(a, b *oci.Record) bool {
	one, err := a.ConfigDescriptor()
	two, err2 := b.ConfigDescriptor()
	return err == nil && err2 == nil && one.Digest == two.Digest
}
