package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"proot-distro/internal/build"
	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/registry"
	"proot-distro/internal/ui"
)

type pushOptions struct {
	arch          platform.Arch
	allowInsecure bool
}

func newPushCommand(a *App) *cobra.Command {
	var o pushOptions
	cmd := &cobra.Command{
		Use:   "push [OPTIONS] IMAGE",
		Short: "Send a cached image to its registry",
		Long: "Send an image from the local cache, built or pulled, to the registry that its name says: Docker Hub for " +
			"user/app, another one for ghcr.io/user/app. Of an image for several platforms all that is cached goes, as one. " +
			"What the registry has is not sent; a push that was interrupted is taken up. 'tag' gives an image the name that " +
			"it shall have there.",
		Example: "PD_DOCKER_AUTH=user:password pd push user/app:1.0\n\n" +
			"# One of several architectures\npd push -a aarch64 ghcr.io/user/app\n\n" +
			"# A copy of an image in a registry of your own\npd tag debian:12 registry.lan:5000/debian:12\n" +
			"pd push --allow-insecure registry.lan:5000/debian:12",
		ValidArgsFunction: a.completeCached,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runPush(cmd.Context(), a, o, args[0])
		},
	}
	a.archFlag(cmd, &o.arch, "push the image of `ARCH` only (default: all platforms of it in the cache)")
	cmd.Flags().BoolVar(&o.allowInsecure, "allow-insecure", false, "accept plain http and bad certificates")
	a.verboseFlags(cmd, "each layer that is not sent, and why")
	return cmd
}

func runPush(ctx context.Context, a *App, o pushOptions, typed string) error {
	ref, err := oci.ParseRef(typed)
	if err != nil {
		return err
	}
	cache, err := a.Cache()
	if err != nil {
		return err
	}
	what, err := a.cachedImage(cache, ref, o.arch)
	if err != nil {
		return err
	}
	var archs []platform.Arch
	for _, rec := range what.records {
		if rec.Arch != "" {
			archs = append(archs, rec.Arch)
		}
	}
	release, err := a.lockImages([]build.Tag{{Ref: ref, Typed: typed}}, archs)
	if err != nil {
		return err
	}
	defer release()
	a.UI.Infof("Pushing %s (%s)", ref, strings.Join(what.platforms, ", "))
	if len(what.missing) > 0 {
		a.UI.Infof("Not in the cache, and so not sent: %s. '%s pull --all-platforms' fetches an image with all of them.",
			strings.Join(what.missing, ", "), a.Program)
	}
	done, err := registry.Push(ctx, registry.PushRequest{
		Ref: ref, Records: what.records, Index: what.index, Cache: cache, Insecure: o.allowInsecure,
		Auth: a.auth(), Report: a.UI, Version: Version(),
	})
	if err != nil {
		return err
	}
	a.UI.Infof("Pushed %s: %s", ref, done.Digest)
	a.UI.Infof("%s sent (%s), %d mounted from another repository, %d there already.",
		count(int64(done.Sent), "blob", "blobs"), ui.Size(done.Bytes), done.Mounted, done.Present)
	return nil
}

// pushed is what a push sends: one image, or an index of several.
type pushed struct {
	index     []byte
	records   []*oci.Record
	platforms []string // that they are for
	missing   []string // platforms that the image has too
}

// cachedImage finds what is to be pushed. Of an image for several platforms it is all that is cached,
// unless one architecture was asked for; a single one goes without index.
func (a *App) cachedImage(cache *image.Cache, ref oci.Ref, asked platform.Arch) (what pushed, err error) {
	if asked == "" {
		whole, err := cache.LookupIndex(ref)
		if err == nil {
			what.missing = whole.Missing()
			part, err := whole.Cached()
			if err != nil {
				return what, err
			}
			if part == whole || len(part.Entries) > 1 {
				what.index, what.records, what.platforms = part.Data, part.Records(), part.Platforms()
				return what, nil
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return what, err
		}
	}
	all, err := cache.List()
	if err != nil {
		return what, err
	}
	arch, err := chooseCached(a.host.Arch, asked, ref, all)
	if err != nil {
		return what, uncached(err, ref)
	}
	rec, err := cache.Lookup(ref, arch)
	what.records, what.platforms = []*oci.Record{rec}, []string{string(arch)}
	return what, err
}

// uncachedError says that an image must be got before it can be used.
type uncachedError struct {
	error
	ref oci.Ref
}

func (e *uncachedError) Unwrap() error { return e.error }

// uncached adds how to get the image, if that is what err is about.
func uncached(err error, ref oci.Ref) error {
	if missing := new(missingError); errors.As(err, &missing) {
		return &uncachedError{err, ref}
	}
	return err
}

func (a *App) uncachedHints(e *uncachedError) []string {
	name := ui.ShellQuote(e.ref.String())
	return []string{
		fmt.Sprintf("Build it with '%s build -t %s PATH', or fetch it with '%s install %s'.", a.Program, name, a.Program, name),
		fmt.Sprintf("'%s list --image' shows what there is; '%s tag' gives it another name.", a.Program, a.Program),
	}
}
