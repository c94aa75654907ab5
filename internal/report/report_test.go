package report

import (
	"io"
	"os"
	"testing"
)

func TestDiscardIsSilent(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	stdout, stderr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = w, w
	Discard.Infof("%s", "a")
	Discard.Warnf("b")
	Discard.Detailf("c")
	m := Discard.Begin(Task{Label: "d", Total: 2, Unit: Bytes})
	m.Add(1)
	m.Done()
	os.Stdout, os.Stderr = stdout, stderr
	w.Close()
	if got, err := io.ReadAll(r); err != nil || len(got) > 0 {
		t.Errorf("it wrote %q, %v", got, err)
	}
}
