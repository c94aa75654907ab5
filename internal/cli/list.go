package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/spf13/cobra"

	"proot-distro/internal/guest"
	"proot-distro/internal/host"
	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/rootfs"
	"proot-distro/internal/ui"
)

type listOptions struct {
	quiet  bool
	images bool
}

func newListCommand(a *App) *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use:   "list [OPTIONS]",
		Short: "List installed containers",
		Long: "List installed containers, with the image each was made from. With --image, list the images " +
			"in the cache: they install without a network.",
		Example:     "pd list\n\n# The names alone, for a script\npd list --quiet\n\n# What the cache holds\npd list --image",
		Annotations: map[string]string{harmless: "true"},
		RunE: func(*cobra.Command, []string) error {
			if o.images {
				return runListImages(a, o)
			}
			return runList(a, o)
		},
	}
	cmd.Flags().BoolVarP(&o.images, "image", "i", false, "list cached images instead of containers")
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "print names only, one a line")
	return cmd
}

func runList(a *App, o listOptions) error {
	store, err := a.Store()
	if err != nil {
		return err
	}
	names, err := store.Names()
	if err != nil {
		return err
	}
	switch {
	case o.quiet:
		for _, name := range names {
			a.UI.Line(name)
		}
		return nil
	case len(names) == 0:
		a.UI.Line(fmt.Sprintf("No container is installed yet. Try: %s install debian", a.Program))
		return nil
	}
	t := ui.Table{Header: []string{"NAME", "IMAGE", "ARCHITECTURE"}, Flexible: []int{1, 0}}
	for _, name := range names {
		ref, arch := describeContainer(a.host, name)
		t.Rows = append(t.Rows, []string{name, ref, string(arch)})
	}
	a.UI.Table(t)
	return nil
}

// describeContainer reads a container's image and architecture without taking
// its lock: a listing never waits, and may be a moment late.
func describeContainer(h *host.Host, name string) (ref string, arch platform.Arch) {
	record, err := readRecord(h.Dirs, name)
	switch {
	case err == nil:
		return record.ImageRef, record.Arch
	case errors.Is(err, fs.ErrNotExist):
		return "(none)", detectArch(h, name)
	}
	return "(manifest.json is damaged)", detectArch(h, name)
}

func readRecord(dirs host.Dirs, name string) (*oci.Record, error) {
	tree, err := rootfs.OpenState(dirs.Runtime, dirs.Containers(), false)
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	data, err := tree.ReadFile(path.Join(name, "manifest.json"), oci.MaxRecordSize)
	if err != nil {
		return nil, err
	}
	return oci.ParseRecord(data)
}

// detectArch looks at the programs of a container that has no record.
func detectArch(h *host.Host, name string) platform.Arch {
	root, err := rootfs.Open(path.Join(h.Dirs.Containers(), name, "rootfs"), rootfs.GuestLinks)
	if errors.Is(err, fs.ErrNotExist) { // in the layout of older versions
		root, err = rootfs.Open(path.Join(h.Dirs.Legacy(), name), rootfs.GuestLinks)
	}
	if err != nil {
		return ""
	}
	defer root.Close()
	return guest.DetectArch(root, guest.ArchHints{Prefix: h.Prefix, Host: h.Arch})
}

func runListImages(a *App, o listOptions) error {
	cache, err := a.Cache()
	if err != nil {
		return err
	}
	records, err := cache.List()
	if err != nil {
		return err
	}
	t := ui.Table{Header: []string{"IMAGE", "ARCHITECTURE", "LAYERS", "SIZE"}, Flexible: []int{0}}
	for _, r := range records {
		layers, size := describeLayers(cache, r)
		t.Rows = append(t.Rows, []string{familiar(r.ImageRef), string(r.Arch), layers, size})
	}
	slices.SortFunc(t.Rows, slices.Compare[[]string])
	switch {
	case o.quiet:
		for i, row := range t.Rows {
			if i == 0 || row[0] != t.Rows[i-1][0] {
				a.UI.Line(row[0])
			}
		}
	case len(t.Rows) == 0:
		a.UI.Line("No image is cached.")
	default:
		a.UI.Table(t)
	}
	return nil
}

// familiar is the usual form of a reference that may have been typed in full.
func familiar(typed string) string {
	if ref, err := oci.ParseRef(typed); err == nil {
		return ref.String()
	}
	return typed
}

// describeLayers gives the number of layers and what they take in the cache.
func describeLayers(cache *image.Cache, r *oci.Record) (count, size string) {
	layers, err := r.Layers()
	if err != nil {
		return "?", "?"
	}
	var cached, total int64
	for _, d := range layers {
		total += d.Size
		if cache.Has(d) {
			cached += d.Size
		}
	}
	size = ui.Size(total)
	if cached < total {
		size = ui.Size(cached) + " of " + size
	}
	return fmt.Sprint(len(layers)), size
}
