package build

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// COPY of a directory copies what is in it: a new destination does not get its mode or its owner
// (https://github.com/moby/buildkit/issues/1941).
func TestCopyOfADirectory(t *testing.T) {
	for _, test := range []struct{ name, lines, files string }{
		{"new", "COPY d /n", "/n 0755 0:0 dir\n/n/f 0644 0:0 \"f\"\n/n/s 0700 0:0 dir\n"},
		{"new, with a slash", "COPY d /n/", "/n 0755 0:0 dir\n/n/f 0644 0:0 \"f\"\n/n/s 0700 0:0 dir\n"},
		{"given away", "COPY --chown=3:4 d /n", "/n 0755 3:4 dir\n/n/f 0644 3:4 \"f\"\n/n/s 0700 3:4 dir\n"},
		{"with a mode", "COPY --chmod=u=rwX,go= d /n", "/n 0700 0:0 dir\n/n/f 0600 0:0 \"f\"\n/n/s 0700 0:0 dir\n"},
		{"there already", "COPY --chmod=711 d/f /n/g\nCOPY --chown=3:4 d /n", "/n 0755 0:0 dir\n/n/f 0644 3:4 \"f\"\n/n/g 0711 0:0 \"f\"\n/n/s 0700 3:4 dir\n"},
		{"linked", "COPY --link --chown=3 d /n/", "/n 0755 3:3 dir\n/n/f 0644 3:3 \"f\"\n/n/s 0700 3:3 dir\n"},
		{"linked, perhaps there already", "COPY --link d /n/", "/n/f 0644 0:0 \"f\"\n/n/s 0700 0:0 dir\n"},
		{"linked and empty", "COPY --link d/s /n/", "/n 0755 0:0 dir\n"},
		{"of another stage", "COPY --chown=5 d /d\nFROM scratch\nCOPY --from=0 /d /n", "/n 0755 0:0 dir\n/n/f 0644 5:5 \"f\"\n/n/s 0700 5:5 dir\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			b.write("Dockerfile", "FROM scratch\n"+test.lines+"\n")
			b.write("d/f", "f")
			check(t, os.Mkdir(filepath.Join(b.context, "d/s"), 0o700))
			check(t, os.Chmod(filepath.Join(b.context, "d"), 0o1777))
			if diff := cmp.Diff(test.files, b.listFiles(b.build(b.request(""))[0])); diff != "" {
				t.Error(diff)
			}
		})
	}
}
