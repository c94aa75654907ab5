package oci

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOrigins(t *testing.T) {
	parse := func(s string) Ref {
		ref, err := ParseRef(s)
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	shared := map[string]json.RawMessage{"other": []byte("1")}
	r := &Record{ImageRef: "a", Arch: "arm", Manifest: []byte(manifestOf(config)), Config: []byte(config), Extra: shared}
	if got := r.Origins(); got != nil {
		t.Errorf("origins of a record without any: %v", got)
	}
	r.AddOrigins()
	r.AddOrigins(parse("debian:12"), parse("ghcr.io/foo/bar@"+sum))
	r.AddOrigins(parse("localhost:5000/x:1"), parse("debian:13"))
	want := []Ref{{Registry: DockerHub, Repository: "library/debian"}, {Registry: "ghcr.io", Repository: "foo/bar"},
		{Registry: "localhost:5000", Repository: "x"}}
	if diff := cmp.Diff(want, r.Origins()); diff != "" {
		t.Error(diff)
	}
	if len(shared) != 1 {
		t.Errorf("a record that shares Extra has changed: %v", shared)
	}
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseRecord(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, back.Origins()); diff != "" {
		t.Errorf("after a round trip: %s", diff)
	}
	for _, bad := range []string{`"x"`, `{}`, `[1]`, `["../x", ""]`} {
		r := &Record{Extra: map[string]json.RawMessage{originKey: []byte(bad)}}
		if got := r.Origins(); got != nil {
			t.Errorf("%s: %v", bad, got)
		}
	}
}
