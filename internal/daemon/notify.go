package daemon

import (
	"fmt"
	"log/slog"
	"strings"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// notify tells the service manager, if there is one.
func notify(log *slog.Logger, state string) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		log.Warn("the service manager was not told", "state", state, "err", err)
	}
}

// notifyStatus says what lbd is doing in a line, for "systemctl status".
func notifyStatus(log *slog.Logger, text string) {
	notify(log, "STATUS="+strings.ReplaceAll(text, "\n", "; "))
}

// notifyReloading carries the time that Type=notify-reload asks for.
func notifyReloading(log *slog.Logger) {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // fails for no clock that exists
	notify(log, fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000))
}

func (p *planner) notify(state string) { notify(p.opts.Log, state) }

func (p *planner) notifyStatus(text string) { notifyStatus(p.opts.Log, text) }

func (p *planner) notifyReloading() { notifyReloading(p.opts.Log) }
