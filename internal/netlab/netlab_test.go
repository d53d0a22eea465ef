package netlab_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

// pair connects two hosts, n1 and n2, with addresses that end in 1 and 2.
func pair(t *testing.T, lab *netlab.Lab, opts netlab.LinkOptions) (n1, n2 *netlab.Host) {
	t.Helper()
	sw, err := lab.Switch("sw", netlab.SwitchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	hosts := []*netlab.Host{nettest.Host(t, lab, "n1"), nettest.Host(t, lab, "n2")}
	for i, h := range hosts {
		opts.MAC = net.HardwareAddr{2, 0, 0, 0, 0, byte(i + 1)}
		if err := lab.Connect(h, "eth0", sw, opts); err != nil {
			t.Fatal(err)
		}
		for _, format := range []string{"192.0.2.%d/24", "2001:db8::%d/64"} {
			if err := h.Addr("eth0", netip.MustParsePrefix(fmt.Sprintf(format, i+1))); err != nil {
				t.Fatal(err)
			}
		}
	}
	return hosts[0], hosts[1]
}

// exchange sends a word from one host to an address of another over TCP.
func exchange(t *testing.T, from, to *netlab.Host, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	l, err := to.Listen(ctx, "tcp", net.JoinHostPort(addr, "80"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var served sync.WaitGroup
	served.Go(func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if _, err := io.Copy(c, c); err != nil {
			t.Error(err)
		}
	})
	c, err := from.Dial(ctx, "tcp", net.JoinHostPort(addr, "80"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
		t.Fatalf("echo: got %q, %v", got, err)
	}
	served.Wait()
}

func TestTwoHostsTalkOverASwitch(t *testing.T) {
	for name, opts := range map[string]netlab.LinkOptions{
		"plain":      {},
		"jumbo":      {MTU: 9000},
		"switch xdp": {SwitchXDP: true},
	} {
		t.Run(name, func(t *testing.T) {
			n1, n2 := pair(t, nettest.New(t), opts)
			exchange(t, n1, n2, "192.0.2.2")
			exchange(t, n2, n1, "2001:db8::1")
			mac, err := n2.MAC("eth0")
			if err != nil || mac.String() != "02:00:00:00:00:02" {
				t.Errorf("mac %s, %v", mac, err)
			}
		})
	}
}

func TestARouterConnectsTwoNetworks(t *testing.T) {
	lab := nettest.New(t)
	router, client, server := nettest.Host(t, lab, "r1"), nettest.Host(t, lab, "c1"), nettest.Host(t, lab, "s1")
	if err := router.Forward(); err != nil {
		t.Fatal(err)
	}
	for i, h := range []*netlab.Host{client, server} {
		sw, err := lab.Switch(fmt.Sprintf("sw%d", i), netlab.SwitchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range []error{
			lab.Connect(router, fmt.Sprintf("eth%d", i), sw, netlab.LinkOptions{}),
			lab.Connect(h, "eth0", sw, netlab.LinkOptions{}),
			router.Addr(fmt.Sprintf("eth%d", i), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 1}), 24)),
			h.Addr("eth0", netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 2}), 24)),
			h.Route(netip.MustParsePrefix("0.0.0.0/0"), netip.AddrFrom4([4]byte{10, 0, byte(i), 1})),
		} {
			if step != nil {
				t.Fatal(step)
			}
		}
	}
	exchange(t, client, server, "10.0.1.2")
}

func TestSysctlsBelongToTheHost(t *testing.T) {
	lab := nettest.New(t)
	n1, n2 := nettest.Host(t, lab, "n1"), nettest.Host(t, lab, "n2")
	if err := n1.SetSysctl("net/ipv4/conf/lo/arp_ignore", "1"); err != nil {
		t.Fatal(err)
	}
	for h, want := range map[*netlab.Host]string{n1: "1", n2: "0"} {
		if got, err := h.Sysctl("net.ipv4.conf.lo.arp_ignore"); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", h.Name, got, err, want)
		}
	}
	if err := n1.SetSysctl("net.ipv4.conf.eth9.arp_ignore", "1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("unknown name: %v", err)
	}
}

func TestDoReportsAFunctionThatGivesUp(t *testing.T) {
	h := nettest.Host(t, nettest.New(t), "n1")
	err := h.Do(func() error {
		runtime.Goexit() // what t.Fatal does
		return nil
	})
	if err == nil || err.Error() != "host n1: function did not return" {
		t.Errorf("got %v", err)
	}
}

func TestCommandRunsInsideAndDiesWithTheHost(t *testing.T) {
	lab := nettest.New(t)
	n1 := nettest.Host(t, lab, "n1")
	out, err := n1.Command(t.Context(), "readlink", "/proc/self/ns/net").Output()
	if err != nil {
		t.Fatal(err)
	}
	var inside string
	err = n1.Do(func() (err error) { inside, err = os.Readlink("/proc/thread-self/ns/net"); return err })
	if err != nil || strings.TrimSpace(string(out)) != inside {
		t.Errorf("command ran in %s, host is %s, %v", out, inside, err)
	}

	cmd := n1.Command(context.Background(), "sleep", "3600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pids, err := netlab.Processes(n1.Namespace)
	if err != nil || !slices.Equal(pids, []int{cmd.Process.Pid}) {
		t.Errorf("processes: %v, %v, want %d", pids, err, cmd.Process.Pid)
	}
	if err := lab.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("sleep ended with %v", err)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	prefix := nettest.Prefix()
	nettest.New(t) // skips without root
	lab, err := netlab.New(prefix)
	if err != nil {
		t.Fatal(err)
	}
	pair(t, lab, netlab.LinkOptions{})
	if names, err := netlab.Namespaces(prefix); err != nil || len(names) != 3 {
		t.Errorf("before: %v, %v", names, err)
	}
	if err := lab.Close(); err != nil {
		t.Error(err)
	}
	if names, err := netlab.Namespaces(prefix); err != nil || len(names) != 0 {
		t.Errorf("after: %v, %v", names, err)
	}
}

func TestSweepRemovesWhatAKilledRunLeft(t *testing.T) {
	prefix := nettest.Prefix()
	nettest.New(t) // skips without root
	lab, err := netlab.New(prefix)
	if err != nil {
		t.Fatal(err)
	}
	nettest.Host(t, lab, "n1")
	for range 2 { // the second time there is nothing to do
		if err := netlab.Sweep(prefix); err != nil {
			t.Error(err)
		}
		if names, err := netlab.Namespaces(prefix); err != nil || len(names) != 0 {
			t.Errorf("left: %v, %v", names, err)
		}
	}
	if err := lab.Close(); err != nil {
		t.Errorf("close after sweep: %v", err)
	}
}

func TestMistakesNameTheHost(t *testing.T) {
	lab := nettest.New(t)
	n1 := nettest.Host(t, lab, "n1")
	if _, err := lab.Host("n1"); err == nil || err.Error() != "host n1: exists" {
		t.Errorf("second host: %v", err)
	}
	if err := n1.Up("eth9"); err == nil || err.Error() != "host n1: interface eth9: switch on: Link not found" {
		t.Errorf("missing interface: %v", err)
	}
}
