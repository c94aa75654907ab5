package build

import (
	"context"
	"errors"
	"strings"
	"testing"

	"proot-distro/internal/engine"
	"proot-distro/internal/engine/native"
)

// RUN --network=none has no network, or does not run.
func TestRunWithoutNetwork(t *testing.T) {
	b := newBench(t)
	b.write("busybox", "@busybox\n")
	b.write("Dockerfile", `FROM scratch
COPY busybox /busybox
RUN --network=none ["/busybox", "sh", "-c", "/busybox tail -n +3 /proc/net/dev | /busybox cut -d: -f1 > /devices"]
`)
	_, err := b.Build(context.Background(), b.request(""))
	var cannot *engine.Unsupported
	if !errors.As(err, &cannot) || !strings.HasPrefix(err.Error(), "Dockerfile, line 3: proot ") {
		t.Errorf("on proot: %v", err)
	}
	eng, err := native.New()
	if err != nil {
		t.Fatal("the native engine is half of what is tested: ", err)
	}
	b.Prepare = eng.Prepare
	got := b.listFiles(b.build(b.request(""))[0])
	if !strings.Contains(got, `/devices 0644 0:0 "    lo\n"`) {
		t.Errorf("on the native engine: %s", got)
	}
}
