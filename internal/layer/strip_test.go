package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDetectStrip(t *testing.T) {
	for name, tc := range map[string]struct {
		names string
		want  int
	}{
		"flat":           {"./ ./bin ./etc/passwd ./usr/bin/x ./usr/lib/y ./usr/sbin/z", 0},
		"one level":      {"debian/ debian/bin debian/etc/ debian/usr/bin debian/var", 1},
		"absolute":       {"/bin /etc /usr", 0},
		"four levels":    {"a/b/c/d/bin a/b/c/d/etc a/b/c/d/usr", 4},
		"mostly usr":     {"etc/passwd usr/bin usr/lib usr/sbin usr/lib64", 0},
		"equals":         {"bin/etc", 0},
		"beside others":  {"metadata.yaml templates/x rootfs/bin rootfs/etc rootfs/usr/bin", 1},
		"known wrapper":  {"home/user/root/bin home/user/root/etc home/user/root/usr/lib", 3},
		"more wins":      {"var/x tmp/y x/bin x/etc x/usr", 1},
		"dots ignored":   {"../bin ../etc ../usr x/bin", 1},
		"distinct count": {"bin/a bin/b bin/c bin/d x/etc x/usr", 1},
	} {
		if got, err := DetectStrip(strings.Fields(tc.names)); got != tc.want || err != nil {
			t.Errorf("%s: %d, %v; want %d", name, got, err, tc.want)
		}
	}
	for _, names := range []string{"", "readme.txt src/main.go", "a/b/c/d/e/bin a/b/c/d/e/etc"} {
		if _, err := DetectStrip(strings.Fields(names)); !errors.Is(err, errNotRootfs) {
			t.Errorf("%q: %v", names, err)
		}
	}
}

func TestFirstNames(t *testing.T) {
	var entries []tar.Header
	for i := range maxNames + 100 {
		entries = append(entries, file(fmt.Sprint("d/f", i), "content"))
	}
	archive := pack(t, entries...)
	names, err := FirstNames(bytes.NewReader(archive))
	if err != nil || len(names) != maxNames || names[0] != "d/f0" {
		t.Errorf("%d names, %v", len(names), err)
	}
	names, err = FirstNames(bytes.NewReader(pack(t, file("a", ""), link("b", "c"))))
	if diff := cmp.Diff([]string{"a", "b"}, names); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if _, err := FirstNames(bytes.NewReader(archive[:300])); err == nil {
		t.Error("a cut archive is read")
	}
}
