package cli

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// On Termux a guest can write to our state directories. Here one has put a trap in the place
// of each name that we use there, in turn, and every command runs into it. None may follow a
// link, wait for a FIFO's other end, read without an end, or say anything but a sentence.

const secret = "a file of the host that no command may touch"

// trapKinds put something at a path; mirror is a copy of what was there, out of the state.
var trapKinds = map[string]func(path, mirror string) error{
	"link":     func(path, mirror string) error { return os.Symlink(mirror, path) },
	"dangling": func(path, mirror string) error { return os.Symlink(mirror+"-missing", path) },
	"FIFO":     func(path, _ string) error { return unix.Mkfifo(path, 0o666) },
	"device":   func(path, _ string) error { return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) }, // zero(4)
	"directory": func(path, _ string) error {
		return errors.Join(os.Mkdir(path, 0o755), os.WriteFile(path+"/file", nil, 0o644))
	},
	"huge file": func(path, _ string) error {
		return errors.Join(os.WriteFile(path, nil, 0o644), os.Truncate(path, 1<<40))
	},
}

// trapCommands are run in this order; $DIR is for their files.
var trapCommands = []string{
	"doctor --json", "list", "list --image", "ps", "kill --all", "__complete login b", "__complete remove --image m",
	"login box -- true", "login box --get-proot-cmd", "run box -- /bin/app",
	"copy box:/etc/hosts $DIR/copied", "copy $DIR/Dockerfile box:/etc/new", "sync box:/etc $DIR/synced",
	"backup box --output $DIR/new.tar", "clone box twin",
	"build -t made:2 $DIR", "pull $REGISTRY/made:1", "tag $REGISTRY/made:1 made:3", "push $REGISTRY/made:1",
	"install $DIR/rootfs.tar --name second", "install $REGISTRY/made:1 --name third",
	"restore $DIR/backup.tar", "reset box", "rename box other", "remove other", "remove box", "remove --image made:1", "clear-cache",
}

// tinyProgram is an ELF file that looks as if it could run.
func tinyProgram() string {
	machines := map[string]elf.Machine{"x86_64": elf.EM_X86_64, "aarch64": elf.EM_AARCH64, "riscv64": elf.EM_RISCV}
	var b strings.Builder
	var uts unix.Utsname
	_ = unix.Uname(&uts) // cannot fail with a valid pointer
	header := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(machines[unix.ByteSliceToString(uts.Machine[:])]), Phoff: 64, Phentsize: 56, Phnum: 1}
	copy(header.Ident[:], []byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1})
	for _, part := range []any{header, elf.Prog64{Type: uint32(elf.PT_LOAD)}} {
		_ = binary.Write(&b, binary.LittleEndian, part) // a Builder takes all
	}
	return b.String()
}

// trapped is a phone in a known state, of which many copies are made.
type trapped struct {
	*phone
	work     string // for the commands' files
	registry string
	template string // a copy of the state directory
}

func newTrapped(t *testing.T) *trapped {
	t.Helper()
	refuse := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(refuse.Close)
	p := &trapped{phone: newPhone(t, nil), work: t.TempDir(), registry: refuse.Listener.Addr().String()}
	for name, content := range map[string]string{
		"tree/bin/sh": tinyProgram(), "tree/bin/app": tinyProgram(), "tree/etc/hosts": "", "tree/root/.keep": "", "tree/usr/.keep": "",
		"Dockerfile": "FROM scratch\nCOPY tree /\nCMD [\"/bin/app\"]\n", ".dockerignore": "*.tar\n",
	} {
		file := filepath.Join(p.work, name)
		must(t, errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o755)))
	}
	for _, line := range []string{
		"build -t $REGISTRY/made:1 -t made:1 -o $DIR/image.oci.tar $DIR", "install $DIR/image.oci.tar --name box",
		"backup box --output $DIR/backup.tar", "login box -- true", "ps",
	} {
		if r := p.command(t, line); r.code != 0 {
			t.Fatalf("%s: %d %s", line, r.code, r.err)
		}
	}
	must(t, os.Rename(filepath.Join(p.work, "image.oci.tar"), filepath.Join(p.work, "rootfs.tar")))
	p.template = filepath.Join(t.TempDir(), "template")
	must(t, os.CopyFS(p.template, os.DirFS(p.host.Dirs.Runtime)))
	for _, extra := range []string{"sessions/1.json", "staging/box/file", "staging/box~old/rootfs/file", "staging/box~removed/file", "locks/build/0.lock"} {
		file := filepath.Join(p.template, extra)
		must(t, errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o644)))
	}
	return p
}

func (p *trapped) command(t *testing.T, line string) result {
	t.Helper()
	return p.pd(t, strings.Fields(strings.NewReplacer("$DIR", p.work, "$REGISTRY", p.registry).Replace(line))...)
}

// names lists what is in the template, and some names more that may come to be.
func (p *trapped) names(t *testing.T) []string {
	t.Helper()
	names := []string{"containers/second", "containers/third", "containers/twin", "containers/other", "staging/second", "build", "locks/second.lock"}
	must(t, filepath.WalkDir(p.template, func(file string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(p.template, file) // below it for certain
		if strings.Contains(name, "rootfs/") {
			return err // that is the guest's own anyway
		}
		if name != "." {
			names = append(names, name)
		}
		return err
	}))
	return names
}

// refresh makes the state anew, with a trap at name. It gives the host's files.
func (p *trapped) refresh(t *testing.T, name, kind string) (hostFiles string) {
	t.Helper()
	hostFiles = filepath.Join(p.dir, "host")
	must(t, errors.Join(os.RemoveAll(p.host.Dirs.Runtime), os.RemoveAll(hostFiles)))
	must(t, errors.Join(os.CopyFS(p.host.Dirs.Runtime, os.DirFS(p.template)), os.MkdirAll(hostFiles, 0o755)))
	path, mirror := filepath.Join(p.host.Dirs.Runtime, name), filepath.Join(hostFiles, filepath.Base(name))
	switch info, err := os.Lstat(path); {
	case err != nil || !info.IsDir():
		must(t, os.WriteFile(mirror, []byte(secret), 0o644))
	default:
		must(t, errors.Join(os.CopyFS(mirror, os.DirFS(path)), os.WriteFile(filepath.Join(mirror, "secret"), []byte(secret), 0o644)))
	}
	must(t, errors.Join(os.RemoveAll(path), os.MkdirAll(filepath.Dir(path), 0o755), trapKinds[kind](path, mirror)))
	return hostFiles
}

// census describes every file of a directory.
func census(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		fmt.Fprintln(&b, file, info.Mode(), info.Size(), info.ModTime().UnixNano())
		return err
	}))
	return b.String()
}

// everyTrap makes TestTraps try each of its combinations, which takes minutes; one of stride
// is tried otherwise. PD_TRAP_TABLE prints what they answer.
const (
	everyTrap = "PD_EVERY_TRAP"
	stride    = 13
)

func TestTraps(t *testing.T) {
	p := newTrapped(t)
	kinds := []string{"link", "dangling", "FIFO", "directory", "huge file"}
	if os.Getuid() == 0 {
		kinds = append(kinds, "device") // mknod(2) is root's alone
	}
	names := p.names(t)
	runs, tried := 0, 0
	for _, name := range names {
		for _, kind := range kinds {
			for _, command := range trapCommands {
				if runs++; runs%stride == 0 || os.Getenv(everyTrap) != "" {
					tried++
					p.spring(t, name, kind, command)
				}
			}
		}
	}
	t.Logf("%d names, %d kinds, %d commands: %d of %d runs", len(names), len(kinds), len(trapCommands), tried, runs)
}

// spring runs one command into one trap.
func (p *trapped) spring(t *testing.T, name, kind, command string) {
	t.Helper()
	hostFiles := p.refresh(t, name, kind)
	for _, made := range []string{"copied", "synced", "new.tar"} {
		must(t, os.RemoveAll(filepath.Join(p.work, made)))
	}
	before := census(t, hostFiles)
	done := make(chan result, 1)
	go func() { done <- p.command(t, command) }()
	var r result
	select {
	case r = <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s with a %s in place of %s: it blocks", command, kind, name)
	}
	if after := census(t, hostFiles); after != before {
		t.Errorf("%s with a %s in place of %s: it changed the host's files:\n%s\nbefore:\n%s", command, kind, name, after, before)
	}
	if strings.Contains(r.out+r.err, "secret") {
		t.Errorf("%s with a %s in place of %s: it shows what is none of its business:\n%s%s", command, kind, name, r.out, r.err)
	}
	errorLines := slices.DeleteFunc(strings.Split(r.err, "\n"), func(l string) bool { return !strings.HasPrefix(l, "Error: ") })
	if r.code != 0 && len(errorLines) != 1 || r.code == 0 && len(errorLines) != 0 || len(r.err) > 2000 {
		t.Errorf("%s with a %s in place of %s: exit code %d and\n%s", command, kind, name, r.code, r.err)
	}
	if os.Getenv("PD_TRAP_TABLE") != "" {
		first, _, _ := strings.Cut(strings.Join(errorLines, ""), "\n")
		t.Logf("%-24s %-10s %-28s %d %s", name, kind, command, r.code, first)
	}
}
