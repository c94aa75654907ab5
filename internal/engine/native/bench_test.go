package native

import (
	"context"
	"testing"

	"proot-distro/internal/engine"
)

func BenchmarkProbe(b *testing.B) {
	for b.Loop() {
		if _, err := probe(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTrue runs a program that does nothing: the cost of a session's start.
func BenchmarkTrue(b *testing.B) {
	e, err := New()
	if err != nil {
		b.Fatal(err)
	}
	s := newSpec(newRootfs(b), "/bin/true")
	for b.Loop() {
		p, err := e.Prepare(s)
		if err != nil {
			b.Fatal(err)
		}
		if status, err := p.Run(context.Background(), engine.Stdio{}); status != 0 || err != nil {
			b.Fatal(status, err)
		}
	}
}
