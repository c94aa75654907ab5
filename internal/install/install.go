// Package install makes a container out of an image, a local archive or a URL.
//
// Whatever the source, the steps are the same: take the name, open the source,
// unpack it into a staging directory, fix /etc up, record the image, commit.
// Until the commit nothing is visible; when a step fails, the staging directory
// goes away and verified downloads stay in the cache.
package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"proot-distro/internal/compression"
	"proot-distro/internal/container"
	"proot-distro/internal/guest"
	"proot-distro/internal/image"
	"proot-distro/internal/layer"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/registry"
	"proot-distro/internal/report"
	"proot-distro/internal/rootfs"
)

// Request is what `install` was asked for.
type Request struct {
	Source   Source
	Name     string // empty derives it from the source
	Arch     platform.Arch
	Insecure bool // plain http and bad certificates are accepted
	Auth     registry.Auth
}

// Result is what came of it.
type Result struct {
	Name   string
	Record *oci.Record // nil for a plain rootfs tarball
}

// Installer holds what every installation needs.
type Installer struct {
	Store   *container.Store
	Cache   *image.Cache
	Version string // of this program, for servers
	Report  report.Reporter
	Termux  bool // this user gets a name in new containers
	// AllIDs gives files the owners that images and archives name, and records that in
	// the container; it takes root of a namespace that has these IDs.
	AllIDs bool
}

// Install makes the container that req describes.
func (in *Installer) Install(ctx context.Context, req Request) (Result, error) {
	name, err := chooseName(req)
	if err != nil {
		return Result{}, err
	}
	unlock, err := in.Cache.Lock(image.Shared)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = unlock() }()
	if err := in.Store.Sweep(); err != nil {
		in.Report.Warnf("leftovers of an earlier run could not be deleted: %v", err)
	}
	draft, err := in.Store.Create(name, "install")
	if err != nil {
		return Result{}, err
	}
	defer draft.Close()
	in.Report.Infof("Installing %s as '%s'…", req.Source.Typed, name)
	record, err := in.fill(draft, func(tree *rootfs.FS) (*image.Image, error) {
		return in.unpackSource(ctx, draft, tree, req)
	})
	if err != nil {
		return Result{}, err
	}
	if err := draft.Commit(); err != nil {
		return Result{}, err
	}
	return Result{Name: name, Record: record}, nil
}

func chooseName(req Request) (string, error) {
	if req.Name != "" {
		return req.Name, container.ValidateName(req.Name)
	}
	name := req.Source.DefaultName()
	if err := container.ValidateName(name); err != nil {
		return "", fmt.Errorf("no container name can be made from %q: choose one with --name", req.Source.Typed)
	}
	return name, nil
}

// fill puts files, as unpack does it, and a record into the draft. An image that unpack
// returns is closed by it.
func (in *Installer) fill(draft *container.Container, unpack func(*rootfs.FS) (*image.Image, error)) (*oci.Record, error) {
	if in.AllIDs {
		if err := draft.SetAllIDs(true); err != nil {
			return nil, err
		}
	}
	tree, err := draft.Rootfs()
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	img, err := unpack(tree)
	if err != nil {
		return nil, err
	}
	if err := guest.FixEtc(tree); err != nil {
		return nil, err
	}
	if in.Termux {
		if err := guest.RegisterAndroid(tree, guest.ProcessIdentity()); err != nil {
			in.Report.Warnf("owners of Android's files will have no names in the container: %v", err)
		}
	}
	if img == nil {
		return nil, nil
	}
	return img.Record, draft.SetRecord(img.Record)
}

// unpackSource returns nil for a plain tarball.
func (in *Installer) unpackSource(ctx context.Context, draft *container.Container, tree *rootfs.FS, req Request) (*image.Image, error) {
	path := req.Source.Path
	switch req.Source.Kind {
	case FromRegistry:
		img, err := registry.Pull(ctx, registry.Request{
			Ref: req.Source.Ref, Typed: req.Source.Typed, Arch: req.Arch,
			Cache: in.Cache, Insecure: req.Insecure, Auth: req.Auth, Version: in.Version, Report: in.Report,
		})
		if err != nil {
			return nil, err
		}
		return img, in.unpackImage(ctx, tree, img)
	case FromURL:
		file, err := in.download(ctx, draft, req)
		if err != nil {
			return nil, err
		}
		defer os.Remove(file)
		path = file
	}
	img, err := image.FromArchive(ctx, path, req.Arch, in.Cache, in.Report)
	switch {
	case errors.Is(err, image.ErrNotImage):
		err = in.unpackTarball(ctx, tree, path)
	case err == nil:
		err = in.unpackImage(ctx, tree, img)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", req.Source.Typed, err)
	}
	return img, nil
}

// unpackImage applies the layers, lowest first; each may still be downloading.
func (in *Installer) unpackImage(ctx context.Context, tree *rootfs.FS, img *image.Image) (err error) {
	defer func() { err = errors.Join(err, img.Close()) }()
	for i, blob := range img.Layers {
		label := fmt.Sprintf("Extracting %d/%d", i+1, len(img.Layers))
		if err := in.applyBlob(ctx, tree, blob, label); err != nil {
			return fmt.Errorf("unpack layer %d of %d: %w", i+1, len(img.Layers), err)
		}
	}
	return nil
}

func (in *Installer) applyBlob(ctx context.Context, tree *rootfs.FS, blob image.Blob, label string) error {
	stream, err := blob.Open()
	if err != nil {
		return err
	}
	defer stream.Close()
	meter := in.Report.Begin(report.Task{Label: label, Total: blob.Descriptor().Size})
	defer meter.Done()
	return in.applyStream(ctx, tree, report.Reader(stream, meter), layer.Options{Whiteouts: true})
}

// unpackTarball unpacks a plain rootfs tarball; a first short look at its
// entries finds out how many leading directories to drop.
func (in *Installer) unpackTarball(ctx context.Context, tree *rootfs.FS, path string) error {
	names, err := firstNames(path)
	if err != nil {
		return report.Cause(err)
	}
	strip, err := layer.DetectStrip(names)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(names, isBackupRecord) {
		in.Report.Warnf("this is a backup: restore brings back what it knows of its image, too, and install does not")
	}
	file, err := os.Open(path)
	if err != nil {
		return report.Cause(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return report.Cause(err)
	}
	meter := in.Report.Begin(report.Task{Label: "Extracting", Total: info.Size()})
	defer meter.Done()
	return in.applyStream(ctx, tree, report.Reader(file, meter), layer.Options{Strip: strip})
}

// isBackupRecord recognises <name>/manifest.json.
func isBackupRecord(name string) bool {
	dir, file := path.Split(name)
	return file == "manifest.json" && strings.Count(strings.TrimPrefix(dir, "./"), "/") == 1
}

func (in *Installer) applyStream(ctx context.Context, tree *rootfs.FS, src io.Reader, o layer.Options) error {
	o.Owners = in.AllIDs
	o.OnSkip = func(name, reason string) { in.Report.Detailf("skipped %s: %s", name, reason) }
	_, err := layer.Unpack(ctx, tree, src, o)
	return err
}

func firstNames(path string) ([]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	plain, err := compression.NewReader(file)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	return layer.FirstNames(plain)
}
