// Command lbd is the daemon: it makes this machine a node of a cluster that shares addresses.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/lbctl/lbctl/internal/daemon"
)

var version = "devel"

// Exit codes, those of lbctl.
const (
	exitFailed  = 1
	exitUsage   = 2
	exitInvalid = 3
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	flags := flag.NewFlagSet("lbd", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "Usage: lbd [flags]\n\nServes the VIPs of a configuration file until it is told to stop.\n"+
			"SIGHUP reads the file again, SIGTERM ends as its key \"shutdown\" says.\n\nFlags:\n")
		flags.PrintDefaults()
	}
	opts := daemon.Options{Version: version}
	flags.StringVar(&opts.Config, "config", daemon.DefaultConfig, "configuration `file`")
	flags.StringVar(&opts.Socket, "socket", daemon.DefaultSocket, "control `socket`, for lbctl")
	flags.StringVar(&opts.BPFDir, "bpf-dir", daemon.DefaultBPFDir, "pin `directory` on a BPF file system")
	flags.StringVar(&opts.StateDir, "state-dir", daemon.DefaultStateDir, "`directory` for what has to be taken back one day")
	flags.StringVar(&opts.DataDir, "data-dir", daemon.DefaultDataDir, "`directory` for what must outlive a reboot")
	showVersion := flags.Bool("version", false, "print the version and exit")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return exitUsage
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "lbd: unexpected argument %q\n", flags.Arg(0))
		return exitUsage
	}
	if *showVersion {
		fmt.Println("lbd", version)
		return 0
	}
	opts.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	if err := daemon.Run(ctx, opts, hangup); err != nil {
		if report, invalid := daemon.Invalid(err); invalid {
			fmt.Fprintf(os.Stderr, "lbd: %s\n", report)
			return exitInvalid
		}
		fmt.Fprintf(os.Stderr, "lbd: %v\n", err)
		return exitFailed
	}
	return 0
}
