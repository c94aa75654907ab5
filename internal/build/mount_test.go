package build

import (
	"context"
	"strings"
	"testing"

	"proot-distro/internal/engine/native"
)

// A temporary filesystem has the size that was asked for, or a warning says that it has not.
func TestTmpfsSize(t *testing.T) {
	const dockerfile = `FROM scratch
COPY busybox /busybox
RUN --mount=type=tmpfs,target=/t,size=1m ["/busybox", "sh", "-c", "cd /t; for i in 1 2 3; do /busybox dd if=/dev/zero of=$i bs=512k count=1 || echo full > /full; done; /busybox stat -c %a . > /mode"]
`
	b := newBench(t)
	b.write("busybox", "@busybox\n")
	b.write("Dockerfile", dockerfile)
	got := b.listFiles(b.build(b.request(""))[0])
	if strings.Contains(got, "/full") || !strings.Contains(got, `/mode 0644 0:0 "1777\n"`) {
		t.Errorf("on proot: %s", got)
	}
	if want := "limit the size of /t to 1048576 bytes"; !strings.Contains(strings.Join(b.log.warnings, "\n"), want) {
		t.Errorf("warnings %q", b.log.warnings)
	}
	b = newBench(t)
	b.write("busybox", "@busybox\n")
	b.write("Dockerfile", dockerfile)
	eng, err := native.New()
	if err != nil {
		t.Fatal("this machine has no native engine: ", err)
	}
	b.Prepare = eng.Prepare
	results, err := b.Build(context.Background(), b.request(""))
	if err != nil {
		t.Fatal(err)
	}
	got = b.listFiles(results[0])
	if !strings.Contains(got, `/full 0644 0:0 "full\n"`) || !strings.Contains(got, `/mode 0644 0:0 "1777\n"`) || strings.Contains(got, "/t/") {
		t.Errorf("on the native engine: %s", got)
	}
	if len(b.log.warnings) > 0 {
		t.Errorf("warnings %q", b.log.warnings)
	}
}
