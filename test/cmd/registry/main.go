// Command registry serves a set of test images from a real registry on 127.0.0.1.
//
//	registry images|small|big
//	registry -make SET...
//
// It prints the address and runs until it is interrupted or its standard input ends. With -make it makes several sets
// at once, of which "packages" (for apt) is one, and serves nothing; the first use on a machine does it otherwise.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"

	"proot-distro/test/fixtures"
)

var sets = map[string]func() (string, error){
	"images": fixtures.Images, "small": fixtures.Small, "big": fixtures.Big,
}

func main() {
	onlyMake := flag.Bool("make", false, "make the sets and serve nothing")
	flag.Parse()
	err := errors.New("name a set: images, small or big")
	switch {
	case *onlyMake && flag.NArg() > 0:
		err = makeAll(flag.Args())
	case flag.NArg() == 1:
		err = serve(flag.Arg(0))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "registry:", err)
		os.Exit(1)
	}
}

func makeAll(names []string) error {
	errs := make([]error, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() { errs[i] = makeOne(name) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func makeOne(name string) error {
	if name == "packages" {
		_, err := fixtures.Packages()
		return err
	}
	_, err := storage(name)
	return err
}

// storage returns a set's storage directory and makes it first if need be.
func storage(name string) (string, error) {
	ensure, ok := sets[name]
	if !ok {
		return "", fmt.Errorf("no set of images is named %q: try images, small or big", name)
	}
	return ensure()
}

func serve(name string) error {
	dir, err := storage(name)
	if err != nil {
		return err
	}
	reg, err := fixtures.Serve(dir, fixtures.RegistryOptions{})
	if err != nil {
		return err
	}
	defer reg.Close()
	fmt.Println(reg.Addr)
	done := make(chan os.Signal, 1)
	signal.Notify(done, os.Interrupt)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // its end is the message
		done <- os.Interrupt
	}()
	<-done
	return nil
}
