package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// ordinaryUser stands in for root, who has no use for user namespaces.
const ordinaryUser = 65534

// native measures what a container costs at run time: against bubblewrap, which makes the same
// namespaces, and against chroot, which makes none.
func (b *bench) native() error {
	n := *b
	n.env = n.home("native", "native-cache")
	if os.Geteuid() == 0 {
		n.user = &syscall.Credential{Uid: ordinaryUser, Gid: ordinaryUser}
		if err := n.moveOut(); err != nil {
			return err
		}
	}
	if _, err := n.timed(n.env, []string{n.pd, "install", "--name", "box", n.ref}); err != nil {
		return err
	}
	root := filepath.Join(n.work, "native/proot-distro/containers/box/rootfs")
	if _, err := n.timed(nil, bwrap(root, "true")); err != nil {
		return fmt.Errorf("bwrap: %w", err)
	}
	return errors.Join(n.syscalls(root), n.starts(root), n.compile(root))
}

// moveOut makes a directory and a copy of the program that the ordinary user can use.
func (b *bench) moveOut() error {
	data, err := os.ReadFile(b.pd)
	if err != nil {
		return err
	}
	if err := os.Chmod(b.work, 0o755); err != nil {
		return err
	}
	b.pd = filepath.Join(b.work, "pd")
	if err := os.WriteFile(b.pd, data, 0o755); err != nil {
		return err
	}
	for _, entry := range b.env {
		_, dir, _ := strings.Cut(entry, "=")
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chown(dir, ordinaryUser, ordinaryUser)); err != nil {
			return err
		}
	}
	return nil
}

// bwrap makes the namespaces and mounts of the native engine.
func bwrap(root string, command ...string) []string {
	return append([]string{"bwrap", "--unshare-user", "--uid", "0", "--gid", "0", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
		"--die-with-parent", "--bind", root, "/", "--proc", "/proc", "--dev", "/dev", "--ro-bind", "/sys", "/sys", "--clearenv",
		"--setenv", "PATH", "/usr/sbin:/usr/bin:/sbin:/bin", "--setenv", "HOME", "/root", "--chdir", "/root"}, command...)
}

// box runs a command with an engine.
func (b *bench) box(engine string, command ...string) side {
	return func(int) (cost, error) {
		return b.timed(b.env, append([]string{b.pd, "run", "--engine", engine, "box", "--"}, command...))
	}
}

func (b *bench) bwrap(root string, command ...string) side {
	return func(int) (cost, error) { return b.timed(nil, bwrap(root, command...)) }
}

// syscalls is work that consists of system calls.
func (b *bench) syscalls(root string) error {
	const once = "ls -laR /usr >/dev/null; i=0; while [ $i -lt 150 ]; do /bin/true; i=$((i+1)); done"
	const often = "for n in 1 2 3 4 5 6 7 8; do " + once + "; done" // so that a start does not count
	err := b.compare("files, native : bwrap", "≤ 1.05", b.box("native", "sh", "-c", often), b.bwrap(root, "sh", "-c", often))
	slow := *b
	slow.rounds = 1
	return errors.Join(err, slow.compare("files, proot : bwrap", "", b.box("proot", "sh", "-c", once), b.bwrap(root, "sh", "-c", once)))
}

// starts have ten times the rounds: a start takes milliseconds. A login is a login shell; in its
// second row, that is not counted against it.
func (b *bench) starts(root string) error {
	n := *b
	n.rounds *= 10
	login := func(int) (cost, error) {
		return n.timed(n.env, []string{n.pd, "login", "--engine", "native", "box", "--", "/bin/true"})
	}
	return errors.Join(
		n.compare("run -- /bin/true : bwrap /bin/true", "", n.box("native", "/bin/true"), n.bwrap(root, "/bin/true")),
		n.compare("login -- /bin/true : bwrap /bin/true", "≤ 1.50", login, n.bwrap(root, "/bin/true")),
		n.compare("login -- /bin/true : bwrap bash -l -c …", "≤ 1.50", login, n.bwrap(root, "/bin/bash", "-l", "-c", "/bin/true")))
}

// compile is work that mostly computes.
func (b *bench) compile(root string) error {
	sources := filepath.Join(root, "src")
	if err := os.Mkdir(sources, 0o777); err != nil {
		return err
	}
	if err := os.Chmod(sources, 0o777); err != nil {
		return err
	}
	for i := range 12 {
		if err := os.WriteFile(filepath.Join(sources, fmt.Sprintf("part%d.c", i)), []byte(source(i)), 0o644); err != nil {
			return err
		}
	}
	const script = "cd /src && for f in *.c; do gcc -O1 -c $f; done"
	native := b.box("native", "sh", "-c", script)
	if os.Geteuid() != 0 {
		return b.compare("C compiler, native : bwrap", "≤ 1.03", native, b.bwrap(root, "sh", "-c", script))
	}
	asRoot := *b
	asRoot.user = nil // chroot becomes the ordinary user itself
	user := fmt.Sprintf("--userspec=%d:%d", ordinaryUser, ordinaryUser)
	return b.compare("C compiler, native : chroot", "≤ 1.03", native, func(int) (cost, error) {
		return asRoot.timed([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, []string{"chroot", user, root, "sh", "-c", script})
	})
}

// source makes a file of C with 60 functions, different in every file.
func source(seed int) string {
	var b strings.Builder
	b.WriteString("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n")
	for i := range 60 {
		fmt.Fprintf(&b, `
static int table%[1]d[%[2]d];
int f%[1]d(const char *s, int n)
{
	int sum = %[2]d;
	for (int i = 0; i < n; i++) {
		switch (s[i] %% 7) {
		case 0: sum += table%[1]d[i %% %[2]d]; break;
		case 1: sum ^= i * %[2]d; break;
		case 2: table%[1]d[sum & 7] = sum; break;
		case 3: sum -= (int) strlen(s + i); break;
		case 4: if (sum > n) sum /= i + 1; break;
		default: sum = sum * 31 + s[i];
		}
	}
	if (sum == n)
		printf("%%d %%s\n", sum, s);
	return sum;
}
`, i, 8+(i*13+seed)%50)
	}
	return b.String()
}

// as makes a command run as the user of the bench, if there is one.
func (b *bench) as(cmd *exec.Cmd) *exec.Cmd {
	if b.user != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: b.user}
		cmd.Dir = "/"
	}
	return cmd
}
