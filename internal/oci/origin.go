package oci

import (
	"encoding/json"
	"maps"
	"slices"
)

// originKey is the record's key for the repositories that its layers are known to be in:
// ["ghcr.io/foo/bar", …]. The Python program ignores it.
const originKey = "from"

const maxOrigins = 16

// Origins are the repositories that some of the image's layers came from, nearest first, without
// tag. On a push to the same registry these layers need not be sent.
func (r *Record) Origins() (origins []Ref) {
	var names []string
	if json.Unmarshal(r.Extra[originKey], &names) != nil { // missing, or a guest wrote it
		return nil
	}
	for _, name := range names[:min(len(names), maxOrigins)] {
		if ref, err := ParseRef(name); err == nil {
			origins = append(origins, ref.repository())
		}
	}
	return origins
}

// AddOrigins remembers repositories behind those that are known. Other records that share
// Extra do not change.
func (r *Record) AddOrigins(refs ...Ref) {
	origins := r.Origins()
	for _, ref := range refs {
		if ref = ref.repository(); !slices.Contains(origins, ref) {
			origins = append(origins, ref)
		}
	}
	if len(origins) == 0 {
		return
	}
	names := []byte("[")
	for i, ref := range origins[:min(len(origins), maxOrigins)] {
		if i > 0 {
			names = append(names, ", "...)
		}
		ref.Tag = ""
		names = append(names, quote(ref.String())...)
	}
	extra := maps.Clone(r.Extra)
	if extra == nil {
		extra = map[string]json.RawMessage{}
	}
	extra[originKey] = append(names, ']')
	r.Extra = extra
}

// repository drops tag and digest.
func (r Ref) repository() Ref { return Ref{Registry: r.Registry, Repository: r.Repository} }
