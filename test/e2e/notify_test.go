package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/nettest"
)

// A serviceManager is where lbd says how it is, as systemd would hear it (sd_notify(3)).
type serviceManager struct {
	t    *testing.T
	conn *net.UnixConn
}

func newServiceManager(t *testing.T) *serviceManager {
	t.Helper()
	name := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	check(t, err)
	t.Cleanup(func() { conn.Close() })
	return &serviceManager{t, conn}
}

// hear returns the next message; "" when there is none for so long.
func (m *serviceManager) hear(within time.Duration) string {
	m.t.Helper()
	check(m.t, m.conn.SetReadDeadline(time.Now().Add(within)))
	var message [4096]byte
	size, err := m.conn.Read(message[:])
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		m.t.Fatal(err)
	}
	return string(message[:size])
}

func (m *serviceManager) want(words ...string) {
	m.t.Helper()
	message := m.hear(20 * time.Second)
	for _, word := range words {
		if !strings.Contains(message, word) {
			m.t.Fatalf("lbd told the service manager %q, want %q", message, words)
		}
	}
}

// launchFor is launch by a service manager.
func (n *node) launchFor(m *serviceManager) {
	n.t.Helper()
	n.cmd = n.host.Command(context.Background(), filepath.Join(binaries, n.lbd), "-config", n.path("lb.yaml"),
		"-socket", n.path("lbd.sock"), "-bpf-dir", n.pins, "-state-dir", n.path("state"), "-data-dir", n.path("data"))
	n.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.conn.LocalAddr().String())
	n.cmd.Stderr = n.logs
	check(n.t, n.cmd.Start())
}

// Ready means that what depends on lbd may start: the VIPs are held and the programs run. While an
// interface is somebody else's, it is not, and says why.
func TestTheServiceManagerHearsWhenLBDIsReady(t *testing.T) {
	c := newCluster(t, options{attach: "native", weights: []int{100}})
	n := c.nodes[0]
	n.stopBare()
	_, err := nettest.ForeignXDP(n.host, "eth0", unix.XDP_FLAGS_DRV_MODE)
	check(t, err)

	m := newServiceManager(t)
	n.launchFor(m)
	m.want("STATUS=not all is applied: interface eth0: another XDP program is attached")
	if message := m.hear(700 * time.Millisecond); message != "" { // of further tries
		t.Errorf("lbd said %q while nothing changed", message)
	}
	nettest.RemoveXDP(t, n.host, "eth0", unix.XDP_FLAGS_DRV_MODE)
	for message := ""; !strings.Contains(message, "READY=1"); {
		if message = m.hear(20 * time.Second); message == "" {
			t.Fatalf("not ready:\n%s", n.logs)
		}
	}
	if !n.holds(t, vip4) || !n.holds(t, vip6) || nettest.XDP(t, n.host, "eth0") == 0 {
		t.Errorf("ready with addresses %s and program %d", n.addresses(t), nettest.XDP(t, n.host, "eth0"))
	}

	var before unix.Timespec
	check(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &before))
	for _, file := range []struct{ old, new string }{
		{"weight: 100", "weight: 90"}, {"weight: 90", "weight: many"},
	} {
		n.rewrite(file.old, file.new)
		check(t, n.cmd.Process.Signal(syscall.SIGHUP))
		message := m.hear(20 * time.Second)
		var since int64
		if _, err := fmt.Sscanf(message, "RELOADING=1\nMONOTONIC_USEC=%d", &since); err != nil || since < before.Nano()/1000 {
			t.Errorf("%s: lbd said %q, want the time of the reload, after %d", file.new, message, before.Nano()/1000)
		}
		m.want("READY=1") // for a file that is refused, too
	}
	n.stop(syscall.SIGTERM)
	m.want("STOPPING=1")
	n.launch() // for the cleanup
}
