package layout

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"iter"
	"path"
	"strings"
)

// Owner is a user and a group of the image.
type Owner struct{ UID, GID int }

// Owners are the entries of a tree, by guest path without links, that do not belong to root, or did not. The zero
// value has none. It is a tree itself, so that a layer of many entries cannot make it slow.
type Owners struct {
	self  Owner
	known bool
	below map[string]*Owners
}

// find gives what is known of a path, or nil.
func (o *Owners) find(name string) *Owners {
	for component := range strings.FieldsFuncSeq(name, isSlash) {
		if o == nil {
			return nil
		}
		o = o.below[component]
	}
	return o
}

func isSlash(r rune) bool { return r == '/' }

// Of gives the owner of an entry: root, unless another one is known. Nil knows none.
func (o *Owners) Of(name string) Owner {
	if at := o.find(name); at != nil {
		return at.self
	}
	return Owner{}
}

// Set keeps the table small: most files are root's. One that becomes root's stays in it, as the disk may have to follow.
func (o *Owners) Set(name string, who Owner) {
	if at := o.find(name); who != (Owner{}) || at != nil && at.known {
		o.put(name, who)
	}
}

func (o *Owners) put(name string, who Owner) {
	for component := range strings.FieldsFuncSeq(name, isSlash) {
		next := o.below[component]
		if next == nil {
			if o.below == nil {
				o.below = map[string]*Owners{}
			}
			next = &Owners{}
			o.below[component] = next
		}
		o = next
	}
	o.self, o.known = who, true
}

// All gives the entries, in no order.
func (o *Owners) All() iter.Seq2[string, Owner] {
	return func(yield func(string, Owner) bool) { o.walk("/", yield) }
}

func (o *Owners) walk(at string, yield func(string, Owner) bool) bool {
	if o.known && !yield(at, o.self) {
		return false
	}
	for name, next := range o.below {
		if !next.walk(path.Join(at, name), yield) {
			return false
		}
	}
	return true
}

// MarshalJSON makes {"/path": [uid, gid]}.
func (o *Owners) MarshalJSON() ([]byte, error) {
	plain := map[string][2]int{}
	for name, who := range o.All() {
		plain[name] = [2]int{who.UID, who.GID}
	}
	return json.Marshal(plain)
}

// UnmarshalJSON reads what MarshalJSON made.
func (o *Owners) UnmarshalJSON(data []byte) error {
	var plain map[string][2]int
	if err := json.Unmarshal(data, &plain); err != nil {
		return fmt.Errorf("read owners: %w", err)
	}
	*o = Owners{}
	for name, who := range plain {
		o.put(name, Owner{who[0], who[1]})
	}
	return nil
}

// Learn takes from a layer's entry what it does to the table. Directories and files that
// came through a link in a parent are missed: layers name them by their real paths.
func (o *Owners) Learn(h *tar.Header) {
	name := path.Clean("/" + h.Name)
	dir, base := path.Split(name)
	switch hidden, isWhiteout := strings.CutPrefix(base, ".wh."); {
	case base == ".wh..wh..opq":
		if at := o.find(dir); at != nil {
			at.below = nil
		}
	case isWhiteout:
		o.forget(dir, hidden)
	case h.Typeflag == tar.TypeLink:
		o.Set(name, o.Of(path.Clean("/"+h.Linkname)))
	default:
		if h.Typeflag != tar.TypeDir {
			o.forget(dir, base)
		}
		o.Set(name, Owner{h.Uid, h.Gid})
	}
}

// forget drops an entry of a directory, and what is in it.
func (o *Owners) forget(dir, name string) {
	if at := o.find(dir); at != nil {
		delete(at.below, name)
	}
}
