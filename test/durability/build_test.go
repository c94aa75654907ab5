package durability

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A killed build spoils nothing for the next one: it gives the same image, from what steps are cached and what is
// unpacked of them, and clears away what was half-made.
func TestKilledBuild(t *testing.T) {
	w := newWorld(t, quickDir(t))
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal("this takes Debian's busybox-static: ", err)
	}
	err = errors.Join(os.WriteFile(filepath.Join(w.work, "busybox"), busybox, 0o755),
		os.WriteFile(filepath.Join(w.work, "Dockerfile"), []byte(`FROM scratch AS box
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox --install -s /bin; mkdir -p /d; for i in $(seq 200); do echo $i > /d/$i; done"]
FROM box
RUN rm /d/1*; for i in $(seq 200); do echo $i > /d/new$i; done
COPY Dockerfile /d/
RUN rm -r /d; mkdir /d; echo done > /d/done
`), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	build := []string{"build", "--engine", "native", "--build-arg", "SOURCE_DATE_EPOCH=1000000000", "--iidfile", "id", "-t", "killed", "."}
	id := func() string {
		w.pd(build...)
		data, err := os.ReadFile(filepath.Join(w.work, "id"))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	begin := time.Now()
	want := id()
	takes := time.Since(begin)
	tooLate := 0
	for i := range kills(t) {
		if i%2 == 0 {
			w.pd("clear-cache", "-q", "--build-cache")
		}
		if w.kill(&takes, build...) {
			tooLate++
		}
		if got := id(); got != want {
			t.Fatalf("image %s, want %s", got, want)
		}
	}
	if tooLate == kills(t) {
		t.Error("every kill came too late")
	}
	// What a process of the killed build may have held on to for a moment, a later one clears away.
	var left []string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		w.pd(build...)
		if left = w.halfMade(); left == nil {
			return
		}
	}
	t.Errorf("left: %q", left)
}

// halfMade lists what belongs to builds that are under way.
func (w *world) halfMade() (left []string) {
	for _, dir := range []string{filepath.Join(w.home, ".cache/proot-distro/build_trees"), w.state("build")} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".") || filepath.Base(dir) == "build" {
				left = append(left, e.Name())
			}
		}
	}
	return left
}
