package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/spf13/cobra"

	"proot-distro/internal/build"
	"proot-distro/internal/engine"
	"proot-distro/internal/engine/native"
	"proot-distro/internal/image"
	"proot-distro/internal/platform"
	"proot-distro/internal/ui"
)

// buildOptions are the options of build, as typed.
type buildOptions struct {
	file          string
	tags          []string
	args          []string
	arch          platform.Arch
	platforms     []string
	target        string
	engine        string
	emulator      string
	outputs       []string
	installAs     string
	noCache, pull bool
	labels        []string
	secrets       []string
	ssh           []string
	contexts      []string
	iidFile       string
	metadataFile  string
	progress      string
	live          bool // steps are drawn
	check         bool
	allowInsecure bool
}

func newBuildCommand(a *App) *cobra.Command {
	var o buildOptions
	cmd := &cobra.Command{
		Use:   "build [OPTIONS] [PATH | URL | -]",
		Short: "Build an image from a Dockerfile",
		Long: "Build an image from a Dockerfile. PATH is the build context, the directory that COPY and ADD read from " +
			"(default: the current one). The image goes into the local cache, from where install and push take it.\n\n" +
			"The context can be fetched, too: from a git repository (a URL that ends in .git or begins with git:// or ssh://, or " +
			"git@HOST:PATH), where #BRANCH:DIR can follow, from the URL of a tar archive, or, as -, from standard input. Instead of " +
			"an archive, the URL or standard input may be a Dockerfile without a context.",
		Example: "pd build .\n\n# With a name, and a container of it\npd build -t myapp:1.0 --install-as myapp .\n\n" +
			"# For two platforms, into a file\npd build -t myapp --platform linux/amd64,linux/arm64 -o myapp.oci.tar.gz .\n\n" +
			"# One stage\npd build -t myapp:debug --target debugger .\n\n" +
			"# From a repository\npd build https://github.com/me/app.git#main:docker\n\n" +
			"# Dockerfile from a pipe\npd build -f - -t myapp:test . < Dockerfile.test\n\n" +
			"# A secret for RUN --mount=type=secret,id=token\npd build --secret id=token,src=token.txt .",
		RunE: func(cmd *cobra.Command, args []string) error {
			return runBuild(cmd, a, o, append(args, ".")[0])
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
	}
	a.buildFlags(cmd, &o)
	return cmd
}

func (a *App) buildFlags(cmd *cobra.Command, o *buildOptions) {
	f := cmd.Flags()
	f.StringVarP(&o.file, "file", "f", "", "read the Dockerfile at `PATH`, - for standard input (default: Dockerfile in the context)")
	f.StringArrayVarP(&o.tags, "tag", "t", nil, "name the image `REF` (default: the context's name; repeatable)")
	f.StringArrayVar(&o.args, "build-arg", nil, "set the build argument `K=V`; K alone takes the host's value (repeatable)")
	f.StringSliceVar(&o.platforms, "platform", nil, "build for `PLATFORM`, as in linux/amd64,linux/arm64 (default: this machine's)")
	a.archFlag(cmd, &o.arch, "build for CPU architecture `ARCH`; the same as --platform")
	f.StringVar(&o.target, "target", "", "build stage `STAGE` instead of the last one")
	f.StringVar(&o.engine, "engine", "", "run commands with `ENGINE`: native (namespaces of the kernel), proot, or auto (default auto)")
	f.StringVar(&o.emulator, "emulator", "", "run a foreign architecture through the emulator at `PATH`")
	f.StringArrayVarP(&o.outputs, "output", "o", nil, "write the image to `FILE` too: .oci.tar, .tar.gz, .tar.xz or .tar.zst (repeatable)")
	f.StringVar(&o.installAs, "install-as", "", "install the image as container `NAME` afterwards")
	a.usernsFlag(cmd, "give the files of that container owners, with full: `IDS` is single or full (default single)")
	f.BoolVar(&o.noCache, "no-cache", false, "run every step, whatever the cache has")
	f.BoolVar(&o.pull, "pull", false, "ask the registries for newer base images")
	f.StringArrayVar(&o.labels, "label", nil, "add the label `K=V` to the image (repeatable)")
	f.StringArrayVar(&o.secrets, "secret", nil, "give RUN --mount=type=secret the secret `SECRET`: id=ID,src=FILE or id=ID,env=VARIABLE (repeatable)")
	f.StringArrayVar(&o.ssh, "ssh", nil, "lend RUN --mount=type=ssh and ADD of git repositories the keys of an agent, or of files: `ID[=SOCKET|KEYFILE,...]`, as in default (repeatable)")
	f.StringArrayVar(&o.contexts, "build-context", nil, "let --from=NAME mean the directory in `NAME=PATH`; an image is docker-image://REF (repeatable)")
	f.StringVar(&o.iidFile, "iidfile", "", "write the image's ID to `FILE`")
	f.StringVar(&o.metadataFile, "metadata-file", "", "write what was built to `FILE`, as JSON")
	f.StringVar(&o.progress, "progress", "auto", "show `HOW`: plain (all output of RUN), tty (steps with their times and last lines), quiet, or auto (tty at a terminal)")
	f.BoolVar(&o.check, "check", false, "look for mistakes in the Dockerfile and build nothing")
	f.BoolVar(&o.allowInsecure, "allow-insecure", false, "accept plain http and bad certificates")
	a.verboseFlags(cmd, "each instruction and show what RUN prints")
	_ = cmd.MarkFlagFilename("file")
	_ = cmd.MarkFlagFilename("output")
	_ = cmd.MarkFlagFilename("emulator")
	_ = cmd.RegisterFlagCompletionFunc("progress",
		cobra.FixedCompletions([]cobra.Completion{"auto", "plain", "tty", "quiet"}, cobra.ShellCompDirectiveNoFileComp))
}

func runBuild(cmd *cobra.Command, a *App, o buildOptions, dir string) error {
	if dir == build.StandardInput && o.file == dir {
		return UsageErrorf(cmd, "the context and the Dockerfile cannot both come from standard input")
	}
	if err := a.checkDelivery(cmd, o); err != nil {
		return err
	}
	tags, err := buildTags(o.tags, dir)
	if err != nil {
		return err
	}
	mayMount, done, err := a.inMountNamespace()
	if done {
		if err == nil && !o.check && a.lacksAllIDs() {
			err = a.installWithOwners(o, tags[0])
		}
		return err
	}
	if o.live, err = a.setProgress(cmd, o.progress); err != nil {
		return err
	}
	b, err := a.builder(o)
	if err != nil {
		return err
	}
	b.MayMount = mayMount
	source, err := b.OpenContext(cmd.Context(), dir, a.Stdin)
	if err != nil {
		return err
	}
	defer source.Close()
	req, err := a.buildRequest(cmd, o, source)
	if err != nil {
		return err
	}
	if o.check {
		return a.checkDockerfile(cmd.Context(), b, req)
	}
	release, err := a.lockImages(tags, req.Platforms)
	if err != nil {
		return err
	}
	defer release()
	if err := b.Cache.TidyTrees(); err != nil {
		a.UI.Warnf("unpacked layers of earlier builds could not be tidied: %v", err)
	}
	unlock, err := b.Cache.Lock(image.Shared) // until the tags refer to what was built
	if err != nil {
		return err
	}
	defer func() { _ = unlock() }()
	results, err := b.Build(cmd.Context(), req)
	if err != nil {
		return err
	}
	if err := b.Tag(results, tags); err != nil {
		return err
	}
	return a.deliver(cmd.Context(), o, tags, results)
}

// builder wires the parts together.
func (a *App) builder(o buildOptions) (*build.Builder, error) {
	h, err := a.Host()
	if err != nil {
		return nil, err
	}
	cache, err := a.Cache()
	if err != nil {
		return nil, err
	}
	tried := sync.OnceValues(native.New)
	b := &build.Builder{
		Cache: cache, Host: h, Report: a.UI, Version: Version(), Insecure: o.allowInsecure, AllIDs: native.HasAllIDs(),
		Auth: a.auth(),
		Prepare: func(spec engine.Spec) (engine.Process, error) {
			process, _, err := a.prepareProcess(h, spec, engineChoice{wish: o.engine, native: tried})
			return process, err
		},
		Emulator: func(guest platform.Arch) (string, error) {
			return engine.FindEmulator(h, guest, o.emulator)
		},
	}
	switch {
	case o.live:
		var current *ui.Step
		b.Step = func(header string) func(bool) {
			current = a.UI.BeginStep(header)
			return current.Done
		}
		b.Output = func(line string) { current.Line(line) }
	case a.verbose:
		b.Output = a.UI.Message
	}
	return b, nil
}

// lockImages keeps other builds and pushes of the same images away.
func (a *App) lockImages(tags []build.Tag, archs []platform.Arch) (release func(), err error) {
	var held []func() error
	release = func() {
		for _, unlock := range held {
			_ = unlock()
		}
	}
	for _, tag := range tags {
		for _, arch := range archs {
			unlock, err := build.Lock(a.host.Dirs, tag.Ref, arch, a.command)
			if err != nil {
				release()
				return nil, err
			}
			held = append(held, unlock)
		}
	}
	return release, nil
}

// deliver hands the results to where they were asked for.
func (a *App) deliver(ctx context.Context, o buildOptions, tags []build.Tag, results []build.Result) error {
	for _, tag := range tags {
		for _, r := range results {
			a.UI.Infof("Built %s for %s: %s", tag.Typed, r.Arch, r.ID())
		}
	}
	for _, file := range o.outputs {
		export, err := build.NewExport(results, tags)
		if err != nil {
			return err
		}
		if err := image.ExportFile(ctx, file, []image.Export{export}); err != nil {
			return err
		}
		a.UI.Infof("Wrote %s.", file)
	}
	if err := a.writeBuildFiles(o, tags, results); err != nil {
		return err
	}
	switch _, inside := native.Unshared(); {
	case o.installAs == "" || inside && a.lacksAllIDs(): // the process outside does it
		return nil
	case a.lacksAllIDs():
		return a.installWithOwners(o, tags[0])
	}
	return a.installBuilt(ctx, o, tags[0], results)
}

// setProgress turns --progress into a level, and says whether steps are drawn.
func (a *App) setProgress(cmd *cobra.Command, how string) (live bool, err error) {
	switch how {
	case "auto":
		live = a.UI.Live() && !a.verbose && !a.quiet
	case "plain":
		a.verbose = true
	case "tty":
		if live = true; !a.UI.Live() {
			return false, errors.New("--progress tty needs a terminal: leave it away, or write --progress plain")
		}
		if a.verbose || a.quiet {
			return false, UsageErrorf(cmd, "--progress tty excludes --verbose and --quiet")
		}
	case "quiet":
		a.quiet = true
	default:
		return false, UsageErrorf(cmd, "--progress is auto, plain, tty or quiet")
	}
	a.UI.SetLevel(a.verbosity())
	return live, nil
}

// checkDockerfile only lints.
func (a *App) checkDockerfile(ctx context.Context, b *build.Builder, req build.Request) error {
	found, err := b.Check(ctx, req)
	if err != nil {
		return err
	}
	if found == 0 {
		a.UI.Infof("Check complete, no warnings found.")
		return nil
	}
	return fmt.Errorf("the check has %s", count(int64(found), "warning", "warnings"))
}
