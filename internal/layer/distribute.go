package layer

import (
	"archive/tar"
	"context"
	"io"

	"proot-distro/internal/rootfs"
)

// Destination is where an entry of a stream goes: into a tree, as [Apply] would put it there,
// or its content into File. With neither it is dropped.
type Destination struct {
	Tree   *rootfs.FS
	Owners bool // see [Options]; for all entries of a tree what it is for the first
	File   io.Writer
}

// Distribute applies a tar stream to several trees. For each entry route says where it goes,
// and changes its Name and, of a hard link, its Linkname to names in that tree. An error of route
// ends the work, and is returned as it is. All else is as with [Apply].
func Distribute(ctx context.Context, tarStream io.Reader, o Options, route func(*tar.Header) (Destination, error)) (Stats, error) {
	d := &distributor{route: route, options: o, appliers: map[*rootfs.FS]*applier{}}
	defer d.close()
	err := stream(ctx, tarStream, d.part, d.finish)
	return d.stats(), err
}

type distributor struct {
	route    func(*tar.Header) (Destination, error)
	options  Options
	appliers map[*rootfs.FS]*applier

	name string    // of the current entry, as it came
	tree *applier  // of the current entry, or nil
	file io.Writer // of the current entry, or nil
}

func (d *distributor) part(p part) error {
	if p.first {
		d.name = p.hdr.Name
		to, err := d.route(p.hdr)
		if err != nil {
			return err
		}
		d.tree, d.file = nil, to.File
		if to.Tree != nil {
			d.tree = d.applier(to)
		}
	}
	if d.tree != nil {
		return entryError(d.name, d.tree.part(p))
	}
	if d.file != nil {
		_, err := d.file.Write(p.data)
		return entryError(d.name, err)
	}
	return nil
}

func (d *distributor) applier(to Destination) *applier {
	a := d.appliers[to.Tree]
	if a == nil {
		o := d.options
		o.Owners = to.Owners
		a = newApplier(to.Tree, o)
		d.appliers[to.Tree] = a
	}
	return a
}

func (d *distributor) finish(ctx context.Context) error {
	for _, a := range d.appliers {
		if err := a.finish(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *distributor) close() {
	for _, a := range d.appliers {
		a.close()
	}
}

func (d *distributor) stats() (sum Stats) {
	for _, a := range d.appliers {
		sum.Entries += a.stats.Entries
		sum.Bytes += a.stats.Bytes
	}
	return sum
}
