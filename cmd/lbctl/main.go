// Command lbctl looks at and operates a node of a load-balanced cluster.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/lbctl/lbctl/internal/cli"
	"golang.org/x/sys/unix"
)

// version is set while linking.
var version = "devel"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, cli.Env{
		Stdin:    os.Stdin,
		Stdout:   os.Stdout,
		Stderr:   os.Stderr,
		Terminal: isTerminal(os.Stdout),
		Getenv:   os.Getenv,
		Now:      time.Now,
		Version:  version,
	}, os.Args[1:])
	stop()
	os.Exit(code)
}

func isTerminal(file *os.File) bool {
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}
