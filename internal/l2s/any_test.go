package l2s

import (
	"testing"
)

func TestAny(t *testing.T) {
	beside := map[string]string{}
	for _, name := range []string{"usr/bin/zip", "usr/bin/.l2s.zip0001", "usr/bin/.l2s.zip0001.0003"} {
		beside[name] = standins[name]
	}
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  bool
	}{
		{"nothing", nil, false},
		{"in /.l2s", standins, true},
		{"beside the file", beside, true},
		{"links that only look like it", map[string]string{
			"a": "→ROOT/.l2s.a0001", "b": "→/elsewhere/.l2s.b0001", ".l2s.b0001": "→/elsewhere/.l2s.b0001.0002", "c": "→/c", "d/e": "→..",
			"usr/bin/zip": "→/usr/bin/.l2s.zip0001", "usr/bin/.l2s.zip0001": "→/usr/bin/.l2s.zip0001.0003", "usr/bin/.l2s.zip0001.0003": "zip",
		}, false},
	} {
		dir := t.TempDir()
		plant(t, dir, dir, tt.files)
		if got, err := Any(open(t, dir)); got != tt.want || err != nil {
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
	}
}
