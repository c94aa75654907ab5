// Command registry serves a set of test images from a real registry on 127.0.0.1.
//
//	registry [-make] images|small|big
//	registry -make packages
//
// It prints the address and runs until it is interrupted or its standard input ends. With -make it makes the
// images, or packages for apt, which the first run on a machine does, and serves nothing.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"proot-distro/test/fixtures"
)

func main() {
	onlyMake := flag.Bool("make", false, "make the images and serve nothing")
	flag.Parse()
	if err := run(flag.Arg(0), *onlyMake); err != nil {
		fmt.Fprintln(os.Stderr, "registry:", err)
		os.Exit(1)
	}
}

func run(set string, onlyMake bool) error {
	sets := map[string]func() (string, error){
		"images": fixtures.Images, "small": fixtures.Small, "big": fixtures.Big,
	}
	if onlyMake {
		sets["packages"] = fixtures.Packages
	}
	storage, ok := sets[set]
	if !ok {
		return fmt.Errorf("no set of images is named %q: try images, small or big", set)
	}
	dir, err := storage()
	if err != nil || onlyMake {
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
