package compression

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
)

// A tool is the reference program of a format.
type tool struct {
	format Format
	argv   []string // compresses to standard output; -d decompresses
}

var tools = []tool{
	{Gzip, []string{"gzip", "-c"}},
	{Bzip2, []string{"bzip2", "-c"}},
	{XZ, []string{"xz", "-T1", "-c"}},
	{LZMA, []string{"xz", "--format=lzma", "-c"}},
	{Zstd, []string{"zstd", "-q", "-c"}},
}

// run feeds the tool, with more arguments, and gives its output. A missing tool
// fails the test.
func (t tool) run(tb testing.TB, input []byte, more ...string) []byte {
	tb.Helper()
	cmd := exec.Command(t.argv[0], append(t.argv[1:len(t.argv):len(t.argv)], more...)...)
	cmd.Stdin = bytes.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		tb.Fatalf("this test needs a working %s: %v %s", t.argv[0], err, &stderr)
	}
	return stdout.Bytes()
}

// pack compresses a file into a new one beside it, with more arguments.
func (t tool) pack(tb testing.TB, file string, more ...string) string {
	tb.Helper()
	packed, err := os.Create(file + "." + t.format.String())
	if err != nil {
		tb.Fatal(err)
	}
	defer packed.Close()
	args := append(t.argv[1:len(t.argv):len(t.argv)], more...)
	cmd := exec.Command(t.argv[0], append(args, file)...)
	cmd.Stdout, cmd.Stderr = packed, os.Stderr
	if err := cmd.Run(); err != nil {
		tb.Fatalf("this test needs a working %s: %v", t.argv[0], err)
	}
	return packed.Name()
}
