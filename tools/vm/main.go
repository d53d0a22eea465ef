// Command vm boots a Debian kernel in qemu and runs one static program in it:
//
//	go run ./vm -kernel 6.1 -- ../bin/datapath.test -test.v
//
// The program gets a machine of its own: root, one processor, file systems mounted, lo up,
// CI=true. What it prints is printed here as it comes; what the kernel prints is shown only when
// the guest dies. The exit status is the program's own, or 125 when the guest told none.
//
// The processor is emulated instruction by instruction (TCG), so no /dev/kvm is needed and a
// kernel is the same kernel on every machine. With -icount the guest's clock advances one
// nanosecond for each instruction: its figures are instruction counts, and do not depend on what
// else the machine does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/lbctl/lbctl/tools/vm/guestinit"
)

// noStatus says that the guest ended without a word about the program.
const noStatus = 125

// baseModules are in every guest: what a test of a datapath builds its networks from.
var baseModules = []string{"veth", "bridge", "sch_ingress", "cls_bpf"}

func main() {
	// The guest's init is this very program, copied.
	if os.Args[0] == guestinit.Path {
		guestinit.Main()
	}
	m, kernel, err := parseFlags(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if m.kernel, err = findKernel(ctx, kernel); err != nil {
		fatal(err)
	}
	status, err := m.run(ctx, os.Stdout)
	if err != nil {
		fatal(err)
	}
	os.Exit(status)
}

func parseFlags(args []string) (m machine, kernel string, err error) {
	flags := flag.NewFlagSet("vm", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: vm [flags] -- program [arguments]\n\n"+
			"program is a static executable: a file of this machine, or of the guest where -file put one.")
		flags.PrintDefaults()
	}
	flags.StringVar(&kernel, "kernel", "6.1", "`series` of Debian's kernel: 6.1 or 6.12")
	flags.BoolVar(&m.icount, "icount", false, "count instructions: one is one nanosecond of the guest's clock")
	flags.DurationVar(&m.timeout, "timeout", 10*time.Minute, "how long the guest may run")
	m.modules = baseModules
	flags.Func("module", "`names` of further modules to load, separated by commas", func(s string) error {
		m.modules = append(m.modules[:len(m.modules):len(m.modules)], strings.Split(s, ",")...)
		return nil
	})
	flags.Func("file", "`host:guest` paths of a file, or of a directory with all in it; repeatable", func(s string) error {
		host, guest, ok := strings.Cut(s, ":")
		if !ok || !strings.HasPrefix(guest, "/") {
			return errors.New("want host:/guest")
		}
		m.files = append(m.files, file{host: host, guest: guest})
		return nil
	})
	flags.Func("env", "`K=V` for the program; repeatable", func(s string) error {
		if !strings.Contains(s, "=") {
			return errors.New("want K=V")
		}
		m.env = append(m.env, s)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return m, "", err
	}
	if flags.NArg() == 0 {
		flags.Usage()
		return m, "", errors.New("no program to run")
	}
	m.program, m.args = flags.Arg(0), flags.Args()[1:]
	return m, kernel, nil
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "vm:", err)
	os.Exit(noStatus)
}
