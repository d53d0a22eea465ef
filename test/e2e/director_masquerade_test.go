package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

// A yard is a director with NAT between a client and backends, and a machine outside that knows no way to
// the backends: what they begin themselves is only answered if it is masqueraded.
type yard struct {
	*cluster
	director *node
	backends []*node
	outside  *netlab.Host
}

const (
	outside4, outside6 = "192.0.2.250", "2001:db8::250"
	yardMasquerade     = "masquerade: [{from: [10.0.0.0/24, '2001:db8:2::/64'], out: eth0}]\n"
)

func newYard(t *testing.T) *yard {
	t.Helper()
	opts := options{attach: "native", weights: []int{100}}
	for _, s := range []struct{ name, vip, backend string }{{"4", vip4.String(), "10.0.0.%d"}, {"6", vip6.String(), "2001:db8:2::%d"}} {
		for _, protocol := range []string{"tcp", "udp"} {
			opts.services += fmt.Sprintf("\n  - {name: %s%s, vips: '%s', protocol: %[1]s, ports: %[4]d, forward: nat, backends: [", protocol, s.name, s.vip, port)
			for i := range 2 {
				opts.services += fmt.Sprintf("{name: b%d, address: '%s'}, ", 1+i, fmt.Sprintf(s.backend, 21+i))
			}
			opts.services += "]}"
		}
	}
	opts.services += "\n" + yardMasquerade + "shutdown: withdraw\n"
	c := newMachines(t, opts)
	y := &yard{cluster: c, director: c.nodes[0], outside: nettest.Host(t, c.lab, "outside")}
	check(t, c.lab.Connect(y.outside, "eth0", c.sw, netlab.LinkOptions{}))
	check(t, y.outside.Addr("eth0", netip.MustParsePrefix(outside4+"/24")))
	check(t, y.outside.Addr("eth0", netip.MustParsePrefix(outside6+"/64")))
	back, err := c.lab.Switch("back", netlab.SwitchOptions{})
	check(t, err)
	check(t, c.lab.Connect(y.director.host, "eth1", back, netlab.LinkOptions{SwitchXDP: true}))
	check(t, y.director.host.Addr("eth1", netip.MustParsePrefix("10.0.0.1/24")))
	check(t, y.director.host.Addr("eth1", netip.MustParsePrefix("2001:db8:2::1/64")))
	for i := range 2 {
		b := &node{t: t, name: fmt.Sprintf("b%d", 1+i), weight: 100, host: nettest.Host(t, c.lab, fmt.Sprintf("b%d", 1+i))}
		b.asked = []netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.0.0.%d", 21+i)), netip.MustParseAddr(fmt.Sprintf("2001:db8:2::%d", 21+i))}
		check(t, c.lab.Connect(b.host, "eth0", back, netlab.LinkOptions{}))
		check(t, b.host.Addr("eth0", netip.PrefixFrom(b.asked[0], 24)))
		check(t, b.host.Addr("eth0", netip.PrefixFrom(b.asked[1], 64)))
		check(t, b.host.Route(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.0.0.1")))
		check(t, b.host.Route(netip.MustParsePrefix("::/0"), netip.MustParseAddr("2001:db8:2::1")))
		y.backends = append(y.backends, b)
	}
	c.writeConfig(y.director, opts)
	t.Cleanup(y.director.remove)
	y.director.start()
	y.answerOutside(t)
	return y
}

// answerOutside tells everybody who connects, or sends a datagram, which address is seen.
func (y *yard) answerOutside(t *testing.T) {
	t.Helper()
	for _, address := range []string{outside4, outside6} {
		at := net.JoinHostPort(address, "80")
		listener, err := y.outside.Listen(t.Context(), "tcp", at)
		check(t, err)
		conn, err := y.outside.ListenPacket(t.Context(), "udp", at)
		check(t, err)
		t.Cleanup(func() { listener.Close(); conn.Close() })
		go func() {
			for {
				caller, err := listener.Accept()
				if err != nil {
					return
				}
				go func() {
					defer caller.Close()
					buffer := make([]byte, 64)
					for {
						if _, err := caller.Read(buffer); err != nil {
							return
						}
						fmt.Fprintf(caller, "%-64s", addrOf(caller.RemoteAddr()))
					}
				}()
			}
		}()
		go func() {
			buffer := make([]byte, 65536)
			for {
				n, from, err := conn.ReadFrom(buffer)
				if err != nil {
					return
				}
				copy(buffer, fmt.Sprintf("%-64s", addrOf(from))) // as long as what was heard
				_, _ = conn.WriteTo(buffer[:n], from)
			}
		}()
	}
}

func addrOf(a net.Addr) string {
	host, _, _ := net.SplitHostPort(a.String())
	return host
}

// ask sends something from a backend to the machine outside and returns whom that saw.
func ask(conn net.Conn, size int) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if _, err := conn.Write(make([]byte, size)); err != nil {
		return "", err
	}
	answer := make([]byte, size)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return "", err
	}
	return strings.TrimSpace(string(answer[:64])), nil
}

// begin is what a backend does of its own accord, once: TCP, UDP, UDP in fragments, and ping.
func (y *yard) begin(ctx context.Context, b *node) error {
	for address, seen := range map[string]string{outside4: "192.0.2.11", outside6: "2001:db8::11"} {
		for _, way := range []struct {
			network string
			size    int
		}{{"tcp", 64}, {"udp", 64}, {"udp", 3000}} {
			conn, err := b.host.Dial(ctx, way.network, net.JoinHostPort(address, "80"))
			if err != nil {
				return err
			}
			got, err := ask(conn, way.size)
			conn.Close()
			if err != nil || got != seen {
				return fmt.Errorf("%s: %s with %d bytes to %s: seen as %q, %w", b.name, way.network, way.size, address, got, err)
			}
		}
		if err := ping(ctx, b.host, address); err != nil {
			return fmt.Errorf("%s: ping %s: %w", b.name, address, err)
		}
	}
	return nil
}

// ping returns when an echo request was answered.
func ping(ctx context.Context, from *netlab.Host, to string) error {
	network, request, reply := "ip4:icmp", byte(8), byte(0)
	if strings.Contains(to, ":") {
		network, request, reply = "ip6:ipv6-icmp", 128, 129
	}
	conn, err := from.ListenPacket(ctx, network, "")
	if err != nil {
		return err
	}
	defer conn.Close()
	message := []byte{request, 0, 0, 0, 0x12, 0x34, 0, 1}
	binary.BigEndian.PutUint16(message[2:], ^(uint16(request)<<8 + 0x1235)) // the kernel's own for IPv6
	if _, err := conn.WriteTo(message, &net.IPAddr{IP: net.ParseIP(to)}); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	heard := make([]byte, 1500)
	for {
		n, peer, err := conn.ReadFrom(heard)
		if err != nil {
			return err
		}
		if n == len(message) && heard[0] == reply && peer.String() == to {
			return nil
		}
	}
}

func TestBackendsBehindNATTalkToTheOutsideUnderLoad(t *testing.T) {
	y := newYard(t)
	for _, b := range y.backends {
		check(t, y.begin(t.Context(), b))
	}
	long, err := y.backends[0].host.Dial(t.Context(), "tcp", outside4+":80")
	check(t, err)
	defer long.Close()
	stays := func(when string) {
		t.Helper()
		if seen, err := ask(long, 64); err != nil || seen != "192.0.2.11" {
			t.Errorf("%s: a connection that a backend has is seen as %q, %v", when, seen, err)
		}
	}
	stays("before")
	load := &standardLoad{servers: (&cluster{nodes: y.backends}).startServers(t)}
	load.startClient(t, y.client, clientOptions{Held: 300, Every: time.Second, Rate: 100, Flows: 50})
	rounds := 0
	untilSecond := func(seconds int) {
		t.Helper()
		for end := time.Now().Add(time.Duration(seconds) * time.Second); time.Now().Before(end); rounds++ {
			for _, b := range y.backends {
				check(t, y.begin(t.Context(), b))
			}
		}
	}
	untilSecond(3)
	stays("under load")
	y.director.stop(syscall.SIGKILL)
	untilSecond(1)
	stays("lbd is dead")
	y.director.start()
	untilSecond(1)
	stays("lbd is back")
	load.stop(t).wantUnharmed(t)
	t.Logf("%d rounds of TCP, UDP, fragments and ping of each backend, IPv4 and IPv6: none failed", rounds)
	status := y.director.lbctl(t, "status").stdout
	if !strings.Contains(status, "10.0.0.0/24, 2001:db8:2::/64") {
		t.Errorf("lbctl status does not tell:\n%s", status)
	}
}

// table says whether the director has our table.
func (n *node) table() (found bool) {
	n.t.Helper()
	check(n.t, n.host.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
		for _, table := range tables {
			found = found || table.Name == "lbd"
		}
		return err
	}))
	return found
}

func TestTheTableComesAndGoesWithTheConfiguration(t *testing.T) {
	y := newYard(t)
	d := y.director
	check(t, y.begin(t.Context(), y.backends[0]))
	check(t, d.host.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		conn.DelTable(&nftables.Table{Name: "lbd", Family: nftables.TableFamilyINet})
		return conn.Flush()
	}))
	nettest.Eventually(t, 30*time.Second, func() error {
		time.Sleep(50 * time.Millisecond)
		if !d.table() {
			return fmt.Errorf("somebody deleted the table, and it does not come back:\n%s", d.logs)
		}
		return nil
	})
	d.wantReported(t, "nftables table inet lbd: missing, should be present")
	check(t, y.begin(t.Context(), y.backends[0]))
	d.rewrite(yardMasquerade, "")
	d.reload()
	if forward, err := d.host.Sysctl("net.ipv4.ip_forward"); d.table() || forward != "0" || err != nil {
		t.Errorf("masquerade is out of the file: table %v, ip_forward %s, %v", d.table(), forward, err)
	}
	text, err := os.ReadFile(d.path("lb.yaml"))
	check(t, err)
	check(t, os.WriteFile(d.path("lb.yaml"), append(text, yardMasquerade...), 0o600))
	d.reload()
	check(t, y.begin(t.Context(), y.backends[1]))
	d.stop(syscall.SIGTERM)
	forward4, err4 := d.host.Sysctl("net.ipv4.ip_forward")
	forward6, err6 := d.host.Sysctl("net.ipv6.conf.all.forwarding")
	if d.table() || forward4 != "0" || forward6 != "0" || err4 != nil || err6 != nil {
		t.Errorf("withdrawn: table %v, forwarding %s and %s, %v, %v", d.table(), forward4, forward6, err4, err6)
	}
	if notes, err := filepath.Glob(d.path("*/firewall")); len(notes) > 0 || err != nil {
		t.Errorf("the note is left: %q, %v", notes, err)
	}
}

// What cannot be applied in full is not begun: neither is a backend on its way out, nor did anybody hear of it.
func TestAFileThatCannotBeAppliedIsNotBegun(t *testing.T) {
	y := newYard(t)
	d := y.director
	text, err := os.ReadFile(d.path("lb.yaml"))
	check(t, err)
	const removed = "{name: b1, address: '10.0.0.21'}, "
	changed := strings.Replace(strings.Replace(string(text), "out: eth0", "out: eth7", 1), removed, "", 1)
	before := d.lbctl(t, "backends")
	heard := len(parse[[]control.Event](t, d.lbctl(t, "events -o json")))
	check(t, os.WriteFile(d.path("lb.yaml"), []byte(changed), 0o600))
	d.lbctl(t, "config diff "+d.path("lb.yaml")).want(t, exitOK, "a reload would refuse it: masquerade: interface eth7: no such interface")
	d.lbctl(t, "config reload").want(t, exitFailed, "masquerade: interface eth7: no such interface (have: eth0, eth1, lo)", "the old one stays in force")
	if after := d.lbctl(t, "backends"); after != before {
		t.Errorf("the backends were:\n%s\nand are:\n%s", before.stdout, after.stdout)
	}
	if events := parse[[]control.Event](t, d.lbctl(t, "events -o json")); len(events) != heard {
		t.Errorf("%d events became %+v", heard, events)
	}
}
