package container

import (
	"slices"
	"testing"
)

func TestLeftovers(t *testing.T) {
	s, dirs := newStore(t)
	check := func(want ...string) {
		t.Helper()
		if got, err := s.Leftovers(); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	check()
	install(t, s, "debian", "x")
	check()
	draft, err := s.Create("making", "install")
	if err != nil {
		t.Fatal(err)
	}
	check() // somebody works on it
	plant(t, dirs.Staging(), map[string]string{"debian~removed/rootfs/a": "", "debian~old/b": "", "other/rootfs/": "", "-stray": ""})
	plant(t, dirs.Containers(), map[string]string{"debian/" + movedFrom: "elsewhere"})
	check("debian", "other")
	if err := draft.Close(); err != nil {
		t.Fatal(err)
	}
	check("debian", "other")
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	check()
}
