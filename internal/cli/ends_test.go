package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"proot-distro/internal/transfer"
)

func TestParseEnd(t *testing.T) {
	for arg, want := range map[string]transfer.End{
		"file":            {Path: "file"},
		"./a:b":           {Path: "./a:b"},
		"../a:b":          {Path: "../a:b"},
		"/a:b":            {Path: "/a:b"},
		"dir/a:b":         {Path: "dir/a:b"},
		"~x:y":            {Path: "~x:y"},
		":x":              {Path: ":x"},
		".":               {Path: "."},
		"box:/etc":        {Container: "box", Path: "/etc"},
		"box:etc":         {Container: "box", Path: "etc"},
		"box:../..":       {Container: "box", Path: "../.."},
		"a.b-c_1:/x:y":    {Container: "a.b-c_1", Path: "/x:y"},
		"box:/with space": {Container: "box", Path: "/with space"},
	} {
		if got, err := parseEnd(&cobra.Command{}, arg); err != nil || got != want {
			t.Errorf("%q: %+v, %v", arg, got, err)
		}
	}
	for arg, want := range map[string]string{"box:": "box:/", "": "empty path"} {
		_, err := parseEnd(&cobra.Command{}, arg)
		var usage *usageError
		if !errors.As(err, &usage) || !strings.Contains(usage.text, want) {
			t.Errorf("%q: %v", arg, err)
		}
	}
}

func TestDotted(t *testing.T) {
	for name, want := range map[string]bool{
		".": true, "..": true, "./": true, "../": true, "a/.": true, "a/..": true, "a/../": true,
		"...": false, "a": false, "/": false, ".hidden": false,
	} {
		if dotted(name) != want {
			t.Errorf("%q", name)
		}
	}
}
