package stories

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// preparation makes what the README's examples take for granted: an internet, and two files.
const preparation = `hub
exec skopeo copy -q --insecure-policy --override-arch amd64 --src-tls-verify=false docker://$REGISTRY/busybox:latest oci:images:busybox
exec umoci unpack --rootless --image images:busybox unpacked
exec tar -cJf rootfs.tar.xz -C unpacked/rootfs .
exec skopeo copy -q --insecure-policy --src-tls-verify=false docker://$REGISTRY/runs:both oci-archive:image.oci.tar
`

// TestReadme runs the examples of the README, in order, as one story. What stands below a command must come out of it;
// "…" stands for anything.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(os.Getenv(envStories), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var story strings.Builder
	story.WriteString(preparation)
	examples := 0
	for _, block := range regexp.MustCompile("(?ms)^```console\n(.*?)^```$").FindAllStringSubmatch(string(readme), -1) {
		for line := range strings.Lines(block[1]) {
			line = strings.TrimSuffix(line, "\n")
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				examples++
				fmt.Fprintf(&story, "\n# %s\nexec sh -c %s\n", line, quote(command))
			} else if line != "…" {
				fmt.Fprintf(&story, "stdout %s\n", quote("(?m)^"+strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*")+"$"))
			}
		}
	}
	if examples < 10 {
		t.Fatalf("only %d examples found", examples)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "readme.txtar"), []byte(story.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, params(dir))
}

// quote makes one word of testscript.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
