package layer

import (
	"sort"
	"strings"
)

// Has reports whether a guest path without symbolic links was in the tree.
func (t *Tree) Has(name string) bool {
	at := t.root()
	for component := range strings.SplitSeq(strings.Trim(name, "/"), "/") {
		if component == "" {
			continue
		}
		entries := t.children(at)
		i := sort.Search(len(entries), func(i int) bool { return t.name(&entries[i]) >= component })
		if i == len(entries) || t.name(&entries[i]) != component {
			return false
		}
		at = &entries[i]
	}
	return true
}
