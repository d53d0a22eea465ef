package nettest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/netlab"
)

// bpfDir is where tests pin what they load.
const bpfDir = "/sys/fs/bpf"

// ours is what Prefix makes, wherever it is in a name. The number is of the process.
var ours = regexp.MustCompile(`lbt-([0-9]+)-[a-z0-9]{6}`)

// sweep removes the namespaces and pins of tests that were killed, and ends what still runs in there. What
// belongs to a process that lives is left alone, so that tests may run at the same time; two that sweep
// the same do not mind.
func sweep() error {
	names, err := netlab.Namespaces("lbt-")
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		prefix, dead := ofDead(name)
		if !dead {
			continue
		}
		pids, err := netlab.Processes(prefix)
		errs = append(errs, err)
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, fmt.Errorf("end process %d in %s: %w", pid, name, err))
			}
		}
		errs = append(errs, netlab.Sweep(prefix))
	}
	pins, err := filepath.Glob(bpfDir + "/*lbt-*")
	errs = append(errs, err)
	for _, pin := range pins {
		if _, dead := ofDead(filepath.Base(pin)); dead {
			errs = append(errs, os.RemoveAll(pin))
		}
	}
	return errors.Join(errs...)
}

// ofDead returns the prefix in a name, and whether the process that made it is gone.
func ofDead(name string) (prefix string, dead bool) {
	found := ours.FindStringSubmatch(name)
	if found == nil {
		return "", false
	}
	pid, err := strconv.Atoi(found[1])
	if err != nil || pid <= 1 {
		return "", false
	}
	return found[0] + "-", errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}
