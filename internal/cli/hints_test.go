package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"proot-distro/internal/container"
	"proot-distro/internal/guest"
	"proot-distro/internal/image"
	"proot-distro/internal/install"
	"proot-distro/internal/registry"
)

func TestHints(t *testing.T) {
	containers := home(t)
	makeContainer(t, containers, "debian", "")
	a := newApp([]string{"pd"}, nil, nil, nil)
	hub := func(kind registry.Kind, repository string, missing registry.Missing) error {
		return fmt.Errorf("pull image: %w", &registry.Error{Kind: kind, Registry: "docker.io", Repository: repository, Missing: missing})
	}
	for _, c := range []struct {
		err  error
		code int
		hint string
	}{
		{&container.NotFoundError{Name: "debina"}, 3, "Did you mean container 'debian'?"},
		{&container.NotFoundError{Name: "fedora"}, 3, "to make one: pd install fedora"},
		{&container.ExistsError{Name: "debian"}, 1, "pd remove debian"},
		{&container.BusyError{Name: "debian"}, 4, "'pd ps'"},
		{&image.BusyError{}, 4, "Wait"},
		{&install.NoImageError{Name: "debian"}, 1, "pd remove debian"},
		{SessionError(&guest.ProgramError{Status: 127}), 127, ""},
		{guest.ErrNoShell, 1, "'pd run CONTAINER -- PROGRAM'"},
		{fmt.Errorf("write: %w", syscall.ENOSPC), 1, "The disk is full"},
		{fmt.Errorf("remove: %w", &fs.PathError{Op: "remove", Path: "/a b", Err: syscall.EPERM}), 1, "chattr -ia '/a b'"},
		{hub(registry.Unauthorized, "library/debain", 0), 5, "Did you mean 'debian'?"},
		{hub(registry.NotFound, "library/zzyzx", registry.MissingRepository), 3, "pd search zzyzx"},
		{hub(registry.NotFound, "library/debian", registry.MissingTag), 3, "https://hub.docker.com/_/debian/tags"},
		{hub(registry.NotFound, "bitnami/redis", registry.MissingTag), 3, "https://hub.docker.com/r/bitnami/redis/tags"},
		{&registry.Error{Kind: registry.NotFound, Registry: "ghcr.io", Repository: "a/b", Reference: "1.23", Missing: registry.MissingTag,
			Tags: []string{"1.22", "2"}}, 3, "Did you mean 'ghcr.io/a/b:1.22'?\nIt has the tags 1.22, 2."},
		{&registry.Error{Kind: registry.NotFound, Registry: "ghcr.io", Repository: "a/b", Reference: "latest", Missing: registry.MissingTag,
			Tags: []string{"1", "2", "3", "4", "5", "6", "7", "8", "9"}}, 3, "It has the tags 1, 2, 3, 4, 5, 6, 7, 8 and 1 more."},
		{hub(registry.NotFound, "library/debian", registry.MissingBlob), 5, "Another tag"},
		{&registry.Error{Kind: registry.NotFound, Registry: "ghcr.io", Repository: "a/b"}, 3, "on Docker Hub: pd search b"},
		{&registry.Error{Kind: registry.Unauthorized, Credentials: true}, 5, "PD_DOCKER_AUTH=user:password"},
		{&registry.Error{Kind: registry.TLS}, 5, "--allow-insecure"},
		{&registry.Error{Kind: registry.DNS}, 5, "Check the network"},
		{&registry.Error{Kind: registry.RateLimited}, 5, "those who log in"},
		{&registry.Error{Kind: registry.BadDigest}, 5, "try again"},
		{&registry.Error{Kind: registry.NoPlatform}, 3, "--architecture"},
		{errors.New("anything"), 1, ""},
	} {
		hints := strings.Join(a.hints(c.err), "\n")
		if !strings.Contains(hints, c.hint) || c.hint == "" && hints != "" {
			t.Errorf("%v: %q, want %q", c.err, hints, c.hint)
		}
		if code := exitCode(c.err); code != c.code {
			t.Errorf("%v: exit code %d, want %d", c.err, code, c.code)
		}
	}
}
