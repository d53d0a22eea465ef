package daemon

import (
	"fmt"
	"strings"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// notify tells the service manager, if there is one.
func (p *planner) notify(state string) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		p.opts.Log.Warn("the service manager was not told", "state", state, "err", err)
	}
}

// notifyStatus says what lbd is doing in a line, for "systemctl status".
func (p *planner) notifyStatus(text string) {
	p.notify("STATUS=" + strings.ReplaceAll(text, "\n", "; "))
}

// notifyReloading carries the time that Type=notify-reload asks for.
func (p *planner) notifyReloading() {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // fails for no clock that exists
	p.notify(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000))
}
