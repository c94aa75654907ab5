package guest

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"proot-distro/internal/rootfs"
)

// A tree maps names to what is there: a func makes something special, a string
// starting with "→" a link, one ending in "/" (in the name) a directory, all else
// an executable file.
type tree map[string]any

func (tr tree) open(t *testing.T) *rootfs.FS {
	t.Helper()
	dir := t.TempDir()
	for name, content := range tr {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch c := content.(type) {
		case nil:
			err = os.MkdirAll(full, 0o755)
		case link:
			err = os.Symlink(string(c), full)
		case string:
			err = os.WriteFile(full, []byte(c), 0o755)
		case []byte:
			err = os.WriteFile(full, c, 0o755)
		case func(string) error:
			err = c(full)
		default:
			t.Fatalf("%s: unknown kind of entry %T", name, content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := rootfs.Open(dir, rootfs.GuestLinks)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

type link string

func fifo(path string) error { return unix.Mkfifo(path, 0o644) }

// sparse makes a file of 1 GiB that takes no room.
func sparse(path string) error {
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		return err
	}
	return os.Truncate(path, 1<<30)
}

func mode(content string, mode fs.FileMode) func(string) error {
	return func(path string) error {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
		return os.Chmod(path, mode)
	}
}

func TestFixEtc(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("host"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		tree tree
		at   string // where the files must be, on the host's side; empty: nowhere
	}{
		{"plain", tree{"etc/resolv.conf": "old", "etc/hosts": "old"}, "etc"},
		{"empty etc", tree{"etc": nil}, "etc"},
		{"no etc", tree{"bin": nil}, ""},
		{"etc is a file", tree{"etc": "x"}, ""},
		{"dangling link", tree{"etc/resolv.conf": link("/run/systemd/resolve/stub-resolv.conf")}, "etc"},
		{"link to the outside", tree{"etc/resolv.conf": link(outside), "etc/hosts": link("../../../../" + outside)}, "etc"},
		{"FIFO", tree{"etc/resolv.conf": fifo}, "etc"},
		{"etc is an absolute link", tree{"etc": link("/real"), "real": nil}, "real"},
		{"etc leads outside", tree{"etc": link(filepath.Dir(outside))}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := tc.tree.open(t)
			if err := FixEtc(root); err != nil {
				t.Fatal(err)
			}
			if data, _ := os.ReadFile(outside); string(data) != "host" {
				t.Errorf("wrote outside: %q", data)
			}
			for name, want := range map[string]string{"resolv.conf": resolvConf, "hosts": hosts} {
				full := filepath.Join(root.Path(), tc.at, name)
				info, err := os.Lstat(full)
				if tc.at == "" {
					if err == nil {
						t.Errorf("%s was written", full)
					}
					continue
				}
				if err != nil || info.Mode() != 0o644 {
					t.Fatalf("%s: %v, %v", full, info, err)
				}
				if data, _ := os.ReadFile(full); string(data) != want {
					t.Errorf("%s = %q", name, data)
				}
			}
		})
	}
}
