package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"proot-distro/internal/container"
	"proot-distro/internal/guest"
	"proot-distro/internal/host"
	"proot-distro/internal/image"
	"proot-distro/internal/oci"
	"proot-distro/internal/platform"
	"proot-distro/internal/rootfs"
	"proot-distro/internal/ui"
)

type listOptions struct {
	images, size, quiet, json bool
}

func newListCommand(a *App) *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use:   "list [OPTIONS]",
		Short: "List installed containers",
		Long: "List installed containers, with the image each was made from. With --image, list the images " +
			"in the cache: they install without a network.\n\n" +
			"With --json it is an array of objects. Those of containers have name, image (empty for a plain root filesystem), " +
			"architecture, userns (single or full), path (of the root filesystem) and, with --size, size in bytes; those of " +
			"images have image, architecture, digest (of the manifest's config), layers, size and cached, which is less than size " +
			"when layers are missing.",
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
	cmd.Flags().BoolVarP(&o.size, "size", "s", false, "add up what the files of each container take, too")
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "print names only, one a line")
	cmd.Flags().BoolVar(&o.json, "json", false, "print all as JSON")
	cmd.MarkFlagsMutuallyExclusive("image", "size")
	cmd.MarkFlagsMutuallyExclusive("quiet", "json")
	return cmd
}

// listedContainer is what is told of a container.
type listedContainer struct {
	Name         string        `json:"name"`
	Image        string        `json:"image"` // as it was typed
	Architecture platform.Arch `json:"architecture"`
	Userns       string        `json:"userns"`
	Path         string        `json:"path"`
	Size         *int64        `json:"size,omitempty"` // bytes
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
	if o.quiet {
		for _, name := range names {
			a.UI.Line(name)
		}
		return nil
	}
	all := make([]listedContainer, len(names))
	for i, name := range names {
		if all[i], err = a.describeContainer(store, name, o.size); err != nil {
			return err
		}
	}
	switch {
	case o.json:
		return a.printJSON(all)
	case len(names) == 0:
		a.UI.Line(fmt.Sprintf("No container is installed yet. Try: %s install debian", a.Program))
		return nil
	}
	t := ui.Table{Header: []string{"NAME", "IMAGE", "ARCHITECTURE"}, Flexible: []int{1, 0}}
	if o.size {
		t.Header = append(t.Header, "SIZE")
	}
	for _, c := range all {
		row := []string{c.Name, cmp.Or(c.Image, "(none)"), string(c.Architecture)}
		if c.Size != nil {
			row = append(row, ui.Size(*c.Size))
		}
		t.Rows = append(t.Rows, row)
	}
	a.UI.Table(t)
	return nil
}

// printJSON prints a list for scripts.
func (a *App) printJSON(list any) error {
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	a.UI.Print(string(text) + "\n")
	return nil
}

// describeContainer looks at a container without taking its lock: a listing never waits, and may be a
// moment late.
func (a *App) describeContainer(store *container.Store, name string, measured bool) (c listedContainer, err error) {
	c = listedContainer{Name: name, Userns: usernsSingle, Path: path.Join(a.host.Dirs.Containers(), name, "rootfs")}
	c.Image, c.Architecture = origin(a.host, name)
	full, err := store.AllIDs(name)
	if full {
		c.Userns = usernsFull
	}
	if !measured || err != nil {
		return c, err
	}
	state, err := rootfs.Open(a.host.Dirs.Runtime, rootfs.NoLinks)
	if err != nil {
		return c, fmt.Errorf("measure containers: %w", err)
	}
	defer state.Close()
	size := state.Size(path.Join(path.Base(a.host.Dirs.Containers()), name))
	c.Size = &size
	return c, nil
}

// origin reads a container's image and architecture.
func origin(h *host.Host, name string) (ref string, arch platform.Arch) {
	record, err := readRecord(h.Dirs, name)
	switch {
	case err == nil:
		return record.ImageRef, record.Arch
	case errors.Is(err, fs.ErrNotExist):
		return "", detectArch(h, name)
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
	all := make([]listedImage, len(records))
	for i, r := range records {
		all[i] = describeImage(cache, r)
	}
	slices.SortFunc(all, func(x, y listedImage) int {
		return cmp.Or(cmp.Compare(x.Image, y.Image), cmp.Compare(x.Architecture, y.Architecture))
	})
	t := ui.Table{Header: []string{"IMAGE", "ARCHITECTURE", "LAYERS", "SIZE"}, Flexible: []int{0}}
	for i, img := range all {
		if o.quiet && (i == 0 || img.Image != all[i-1].Image) {
			a.UI.Line(img.Image)
		}
		t.Rows = append(t.Rows, []string{img.Image, string(img.Architecture), fmt.Sprint(img.Layers), img.size()})
	}
	switch {
	case o.quiet:
	case o.json:
		return a.printJSON(all)
	case len(t.Rows) == 0:
		a.UI.Line("No image is cached.")
	default:
		a.UI.Table(t)
	}
	return nil
}

// listedImage is what is told of an image.
type listedImage struct {
	Image        string        `json:"image"`
	Architecture platform.Arch `json:"architecture"`
	Digest       digest.Digest `json:"digest"` // of the config: the image's ID
	Layers       int           `json:"layers"`
	Size         int64         `json:"size"`   // of the layers, compressed
	Cached       int64         `json:"cached"` // of these, what the cache has
}

func (i listedImage) size() string {
	if i.Cached < i.Size {
		return ui.Size(i.Cached) + " of " + ui.Size(i.Size)
	}
	return ui.Size(i.Size)
}

func describeImage(cache *image.Cache, r *oci.Record) listedImage {
	img := listedImage{Image: familiar(r.ImageRef), Architecture: r.Arch}
	if config, err := r.ConfigDescriptor(); err == nil {
		img.Digest = config.Digest
	}
	layers, err := r.Layers()
	if err != nil {
		return img // whose manifest is damaged
	}
	img.Layers = len(layers)
	for _, d := range layers {
		img.Size += d.Size
		if cache.Has(d) {
			img.Cached += d.Size
		}
	}
	return img
}

// familiar is the usual form of a reference that may have been typed in full.
func familiar(typed string) string {
	if ref, err := oci.ParseRef(typed); err == nil {
		return ref.String()
	}
	return typed
}
