# Two targets are enough to begin with: `make demo` and `make test`. Both install what they need on Debian and its
# relatives (see `make tools`); everything else needs Go alone.

PREFIX  ?= $(HOME)/.local
DESTDIR ?=
FUZZTIME ?= 20s
GO      ?= go

# Everything is built and tested without C, as it is released.
export CGO_ENABLED = 0

# Root may build what somebody else has cloned.
VERSION := $(shell git -c safe.directory='$(CURDIR)' describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X proot-distro/internal/cli.version=$(VERSION)
BUILD   := $(GO) build -trimpath -ldflags '$(LDFLAGS)'

.PHONY: build install demo test check unit unit-user stories fixtures bench lint fuzz race release-check deb docs tools clean kill-test

build:
	$(BUILD) -o bin/proot-distro ./cmd/proot-distro
	ln -sf proot-distro bin/pd

# The binary, the pd link, man pages and completions.
install: build
	install -d '$(DESTDIR)$(PREFIX)/bin'
	install -m 755 bin/proot-distro '$(DESTDIR)$(PREFIX)/bin/proot-distro'
	ln -sf proot-distro '$(DESTDIR)$(PREFIX)/bin/pd'
	$(GO) run ./cmd/gendocs '$(DESTDIR)$(PREFIX)'

# A real image from a real registry into a container, and work in it, with each command printed.
demo: build
	scripts/tools.sh demo
	scripts/demo.sh

# Everything that CI runs.
test: tools check fixtures unit unit-user stories

tools:
	scripts/tools.sh test

check:
	@unformatted=$$(gofmt -l cmd internal test) || exit 1; \
	if [ -n "$$unformatted" ]; then echo "gofmt -w these files:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...

# The images that stories install; minutes on a new machine, nothing afterwards.
fixtures:
	$(GO) run ./test/cmd/registry -make images packages

unit:
	$(GO) test -timeout 5m ./cmd/... ./internal/... ./test/fixtures/...

# The same once more without privileges, when it is root who tests.
unit-user:
	scripts/unit-tests-as-user.sh

stories:
	$(GO) test -count 1 -timeout 20m ./test/stories ./test/durability

# Each command that changes something, killed a hundred times at random moments; `make stories` does a dozen.
kill-test:
	PD_KILLS=100 $(GO) test -count 1 -timeout 30m -v ./test/durability

# Ratios against tar and skopeo in the same run; never part of the tests.
bench: build
	scripts/tools.sh bench
	$(GO) run ./test/cmd/bench

lint:
	scripts/lint.sh

fuzz:
	scripts/fuzz.sh $(FUZZTIME)

# Needs a C compiler, which the other targets do not.
race:
	CGO_ENABLED=1 $(GO) test -race -timeout 10m ./internal/...

release-check:
	scripts/tools.sh release
	scripts/release-check.sh '$(VERSION)'

# A package for Debian and its relatives, in dist/. DEB_ARCHES may name more than one architecture.
deb:
	scripts/deb.sh '$(VERSION)' $(DEB_ARCHES)

# The README's option tables, from the command table.
docs:
	$(GO) run ./cmd/gendocs --readme README.md

clean:
	rm -rf bin dist
