package cli

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"proot-distro/internal/oci"
	"proot-distro/internal/registry"
	"proot-distro/internal/ui"
)

// registryExitCode tells a name that does not exist from a registry that does not
// work.
func registryExitCode(err *registry.Error) int {
	switch err.Kind {
	case registry.NotFound:
		if err.Missing == registry.MissingBlob {
			return exitNetwork // the image exists, and its registry does not have it
		}
		return exitNotFound
	case registry.NoPlatform:
		return exitNotFound
	case registry.Unsupported:
		return exitFailure
	}
	return exitNetwork
}

const credentials = "Credentials are taken from PD_DOCKER_AUTH=user:password, or from ~/.docker/config.json."

// registryHints says what to do when a registry did not give what was asked for.
func (a *App) registryHints(err *registry.Error) []string {
	if err.Push {
		return a.pushHints(err)
	}
	switch err.Kind {
	case registry.DNS, registry.Network, registry.Timeout, registry.Refused:
		if err.URL != "" {
			return []string{"Check the network and the URL."}
		}
		return []string{fmt.Sprintf("Check the network and the registry's name. What '%s list --image' shows installs without it.", a.Program)}
	case registry.TLS:
		return []string{"If you trust this server and the way to it nevertheless: --allow-insecure"}
	case registry.Unauthorized:
		if err.Credentials {
			return []string{credentials}
		}
		return append(a.otherImage(err), credentials)
	case registry.Forbidden:
		return []string{credentials}
	case registry.NotFound:
		if err.Missing == registry.MissingBlob {
			return []string{"Only who runs the registry, or pushed the image, can repair that. Another tag may be whole."}
		}
		if err.Missing == registry.MissingTag && (len(err.Tags) > 0 || err.Registry == oci.DockerHub) {
			return tagHints(err)
		}
		return a.otherImage(err)
	case registry.RateLimited:
		if !err.Credentials {
			return []string{"Registries allow more to those who log in. " + credentials}
		}
	case registry.BadDigest:
		return []string{"What was damaged is not kept; try again."}
	case registry.NoPlatform:
		if none := new(*oci.NoPlatformError); errors.As(err, none) && !slices.ContainsFunc((*none).Have, isLinux) {
			return nil
		}
		return []string{"Another architecture can be chosen with --architecture; it runs through qemu-user."}
	}
	return nil
}

func isLinux(platform string) bool { return strings.HasPrefix(platform, "linux/") }

// pushHints says what to do when a registry did not take what was pushed.
func (a *App) pushHints(err *registry.Error) []string {
	switch err.Kind {
	case registry.DNS, registry.Network, registry.Timeout, registry.Refused:
		return []string{"Check the network and the registry's name. What has arrived is not sent again."}
	case registry.TLS:
		return []string{"If you trust this server and the way to it nevertheless: --allow-insecure"}
	case registry.Unauthorized, registry.Forbidden, registry.NotFound:
		hint := fmt.Sprintf("The name says where an image goes; '%s tag' gives it another one.", a.Program)
		if dir, _ := path.Split(err.Repository); err.Registry == oci.DockerHub && dir == "library/" {
			hint = fmt.Sprintf("On Docker Hub your own images are named USER/%s; '%s tag' gives an image another name.",
				path.Base(err.Repository), a.Program)
		}
		return []string{credentials, hint}
	}
	return nil
}

// wellKnown are the images that people most likely mean when they mistype a name
// on Docker Hub.
var wellKnown = []string{
	"almalinux", "alpine", "amazonlinux", "archlinux", "busybox", "caddy", "debian", "eclipse-temurin", "fedora",
	"golang", "haproxy", "hello-world", "httpd", "mariadb", "memcached", "mongo", "mysql", "nextcloud", "nginx", "node",
	"openjdk", "oraclelinux", "perl", "php", "postgres", "python", "redis", "rockylinux", "ruby", "rust", "ubuntu",
}

// otherImage suggests the name that was meant, or where to look for it.
func (a *App) otherImage(err *registry.Error) []string {
	if err.URL != "" {
		return []string{"Check the URL."}
	}
	name := path.Base(err.Repository)
	if err.Registry != oci.DockerHub {
		return []string{fmt.Sprintf("Check the name; on Docker Hub: %s search %s", a.Program, ui.ShellQuote(name))}
	}
	if near := nearest(name, wellKnown); near != "" && near != name {
		return []string{fmt.Sprintf("Did you mean '%s'? To look for others: %s search %s", near, a.Program, ui.ShellQuote(name))}
	}
	return []string{fmt.Sprintf("To find its name: %s search %s", a.Program, ui.ShellQuote(name))}
}

// tagHints suggests the tag that was meant, and shows others.
func tagHints(err *registry.Error) (hints []string) {
	const shown = 8
	if near := nearest(err.Reference, err.Tags); near != "" {
		name := oci.Ref{Registry: err.Registry, Repository: err.Repository, Tag: near}
		hints = append(hints, fmt.Sprintf("Did you mean '%s'?", name))
	}
	switch more := len(err.Tags) - shown; {
	case err.Registry == oci.DockerHub:
		return append(hints, fmt.Sprintf("Its tags are listed at %s/tags", hubPage(err.Repository)))
	case more > 0:
		return append(hints, fmt.Sprintf("It has the tags %s and %d more.", strings.Join(err.Tags[:shown], ", "), more))
	case len(err.Tags) == 1:
		return append(hints, fmt.Sprintf("Its only tag is %s.", err.Tags[0]))
	}
	return append(hints, fmt.Sprintf("It has the tags %s.", strings.Join(err.Tags, ", ")))
}

func hubPage(repository string) string {
	if dir, name := path.Split(repository); dir == "library/" {
		return "https://hub.docker.com/_/" + name
	}
	return "https://hub.docker.com/r/" + repository
}
