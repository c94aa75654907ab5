package layout

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"
)

// learn shows a layer of these entries: "name uid", directories with a slash, links as "name>target".
func learn(o *Owners, entries ...string) {
	for _, e := range entries {
		var uid int
		name, id, _ := strings.Cut(e, " ")
		fmt.Sscan(id, &uid)
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Uid: uid, Gid: uid}
		if strings.HasSuffix(name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if link, target, ok := strings.Cut(name, ">"); ok {
			h.Typeflag, h.Name, h.Linkname = tar.TypeLink, link, target
		}
		o.Learn(h)
	}
}

func TestOwnersOfLayers(t *testing.T) {
	base := []string{"srv/ 7", "srv/a 7", "srv/b/ 8", "srv/b/c 9", "srvx 5", "root 0"}
	all := map[string]int{"/srv": 7, "/srv/a": 7, "/srv/b": 8, "/srv/b/c": 9, "/srvx": 5}
	without := func(names ...string) map[string]int {
		m := maps.Clone(all)
		for _, name := range names {
			delete(m, name)
		}
		return m
	}
	with := func(m map[string]int, name string, uid int) map[string]int { m[name] = uid; return m }
	for _, c := range []struct {
		name  string
		layer []string
		want  map[string]int
	}{
		{"nothing", nil, all},
		{"a whiteout", []string{"srv/.wh.b 0"}, without("/srv/b", "/srv/b/c")},
		{"an opaque directory", []string{"srv/.wh..wh..opq 0"}, without("/srv/a", "/srv/b", "/srv/b/c")},
		{"a file in the place of a directory", []string{"./srv/b 3"}, with(without("/srv/b/c"), "/srv/b", 3)},
		{"a directory again", []string{"srv/b/ 4"}, with(without(), "/srv/b", 4)},
		{"a directory becomes root's", []string{"srv/ 0"}, with(without(), "/srv", 0)},
		{"a hard link", []string{"x>srv/b/c"}, with(without(), "/x", 9)},
		{"a hard link to root's", []string{"x>root"}, all},
		{"a whiteout of nothing", []string{"no/where/.wh.x 0"}, all},
		{"the root", []string{"./ 6"}, with(without(), "/", 6)},
	} {
		t.Run(c.name, func(t *testing.T) {
			var o Owners
			learn(&o, base...)
			learn(&o, c.layer...)
			got := map[string]int{}
			for name, who := range o.All() {
				got[name] = who.UID
				if o.Of(name) != who {
					t.Errorf("All gives %s to %v, Of to %v", name, who, o.Of(name))
				}
			}
			if !maps.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			data, err := json.Marshal(&o)
			if err != nil {
				t.Fatal(err)
			}
			var back Owners
			if err := json.Unmarshal(data, &back); err != nil {
				t.Fatal(err)
			}
			if !maps.Equal(maps.Collect(back.All()), maps.Collect(o.All())) {
				t.Errorf("%s becomes %v", data, maps.Collect(back.All()))
			}
		})
	}
}

func TestNobodyOwnsWithoutATable(t *testing.T) {
	if got := (*Owners)(nil).Of("/a/b"); got != (Owner{}) {
		t.Error(got)
	}
}

// A layer of a stranger's must not take time that grows with the square of its entries.
func TestOwnersOfManyEntries(t *testing.T) {
	var entries []string
	for i := range 50_000 {
		entries = append(entries, fmt.Sprintf("home/%d/%d 1000", i%100, i))
	}
	start := time.Now()
	learn(&Owners{}, entries...)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("50,000 entries took %v", took)
	}
}
