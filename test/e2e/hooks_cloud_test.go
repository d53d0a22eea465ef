package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os"

	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	membership "github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

// A cloud has an API that moves addresses between machines, on a switch of a cluster.
type cloud struct {
	mu      sync.Mutex
	holders map[string]string // of addresses
	moved   []string          // "192.0.2.80 i-n1", of those that were moved
	refused int               // requests to move
	failing bool
}

const cloudAddress = "192.0.2.240"

func newCloud(t *testing.T, lab *netlab.Lab, sw *netlab.Switch) *cloud {
	t.Helper()
	c := &cloud{holders: make(map[string]string)}
	host := nettest.Host(t, lab, "cloud")
	check(t, lab.Connect(host, "eth0", sw, netlab.LinkOptions{}))
	check(t, host.Addr("eth0", netip.MustParsePrefix(cloudAddress+"/24")))
	listener, err := host.Listen(t.Context(), "tcp", cloudAddress+":80")
	check(t, err)
	server := &http.Server{Handler: c, ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return c
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var asked struct{ Instance string }
	address := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	switch {
	case r.Header.Get("Authorization") != "Bearer secret":
		http.Error(w, "who are you?", http.StatusUnauthorized)
	case c.failing:
		if r.Method == http.MethodPut {
			c.refused++
		}
		http.Error(w, "try again later", http.StatusServiceUnavailable)
	case r.Method == http.MethodPut && json.NewDecoder(r.Body).Decode(&asked) == nil:
		c.holders[address] = asked.Instance
		c.moved = append(c.moved, address+" "+asked.Instance)
	case r.Method == http.MethodGet:
		fmt.Fprintf(w, "{\"address\": %q, \"instance\": %q}\n", address, c.holders[address])
	default:
		http.Error(w, "what?", http.StatusBadRequest)
	}
}

func (c *cloud) fail(failing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failing, c.refused = failing, 0
}

// awaitRefused waits until so many requests to move were refused.
func (c *cloud) awaitRefused(t *testing.T, n int) {
	t.Helper()
	nettest.Eventually(t, agreeWithin, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.refused < n {
			return fmt.Errorf("%d requests were refused, want %d", c.refused, n)
		}
		return nil
	})
}

// await waits until both VIPs are at a node, moved there since the last call once each, and by nobody to
// anywhere else.
func (c *cloud) await(t *testing.T, node string) {
	t.Helper()
	var want []string
	for _, vip := range []netip.Addr{vip4, vip6} {
		want = append(want, vip.String()+" i-"+node)
	}
	nettest.Eventually(t, agreeWithin, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if moved := slices.Sorted(slices.Values(c.moved)); !slices.Equal(moved, want) {
			return fmt.Errorf("moved: %q, want %q", moved, want)
		}
		c.moved = nil
		return nil
	})
}

// wantStill fails the test when anything was moved since.
func (c *cloud) wantStill(t *testing.T, when string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.moved) > 0 {
		t.Errorf("%s: moved again: %q", when, c.moved)
	}
}

// inCloud has a node tell the cloud by the hook of deploy/hooks.
func (n *node) inCloud() {
	n.t.Helper()
	for dir := n.dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		check(n.t, os.Chmod(dir, 0o755))
	}
	script, err := os.ReadFile("../../deploy/hooks/move-address")
	check(n.t, err)
	check(n.t, os.WriteFile(n.path("hook"), script, 0o755))
	check(n.t, os.WriteFile(n.path("headers"), []byte("Authorization: Bearer secret\n"), 0o644))
	check(n.t, os.WriteFile(n.path("conf"), fmt.Appendf(nil,
		"API=http://%s/v1\nINSTANCE=i-%s\nHEADERS=%s\nREQUEST_TIME=2\n", cloudAddress, n.name, n.path("headers")), 0o644))
	var hooks []string
	for _, vip := range []netip.Addr{vip4, vip6} {
		hooks = append(hooks, fmt.Sprintf("{command: [%s, %s, '%s'], on: vip, timeout: 1m}", n.path("hook"), n.path("conf"), vip))
	}
	n.rewrite("interface: eth0\n", fmt.Sprintf("interface: eth0\nhooks: [%s]\n", strings.Join(hooks, ", ")))
}

// An address of a cloud follows the VIP: it is moved once by each new owner, again and again while the API
// fails, and never by a node that is not the owner any more.
func TestAnAddressOfACloudFollowsTheVIP(t *testing.T) {
	opts := options{members: true, attach: "native", weights: []int{100, 100}, vips: failoverVIPs("")}
	c := newMachines(t, opts)
	api := newCloud(t, c.lab, c.sw)
	key := membership.GenerateKey()
	for _, n := range c.nodes {
		check(t, membership.WriteKeys(n.path("cluster.key"), []membership.Key{key}))
		c.writeConfig(n, opts)
		n.inCloud()
		t.Cleanup(n.remove)
		n.launch()
	}
	for _, n := range c.nodes {
		n.await()
	}
	c.agree(t)
	n1, n2 := c.nodes[0], c.nodes[1]
	move := func(to string) {
		t.Helper()
		for _, vip := range []netip.Addr{vip4, vip6} {
			n1.lbctl(t, fmt.Sprintf("vips move %s %s", vip, to)).want(t, exitOK)
		}
		wantOwner(t, to, c.running()...)
	}
	wantOwner(t, "n1", c.nodes...)
	nettest.Eventually(t, agreeWithin, func() error { // whoever was alone for a moment may have been first
		api.mu.Lock()
		defer api.mu.Unlock()
		if api.holders[vip4.String()] != "i-n1" || api.holders[vip6.String()] != "i-n1" {
			return fmt.Errorf("%q", api.holders)
		}
		api.moved = nil
		return nil
	})

	move("n2")
	api.await(t, "n2")

	// n1 tries in vain, and is not the owner any more when the API answers again
	api.fail(true)
	move("n1")
	api.awaitRefused(t, 4)
	move("n2")
	api.fail(false)
	time.Sleep(3 * time.Second) // longer than n1 would have waited before it tried again
	api.wantStill(t, "the address is where it was")
	move("n1")
	api.await(t, "n1")

	// the owner dies while the API fails
	move("n2")
	api.await(t, "n2")
	api.fail(true)
	n2.stop(syscall.SIGKILL)
	check(t, c.sw.Host.Down(n2.port()))
	wantOwner(t, "n1", n1)
	api.awaitRefused(t, 4)
	api.fail(false)
	api.await(t, "n1")

	n1.restart(syscall.SIGTERM)
	wantOwner(t, "n1", n1)
	time.Sleep(time.Second)
	api.wantStill(t, "lbd started again")
	if status := n1.lbctl(t, "status").stdout; strings.Contains(status, "problem: hook") {
		t.Errorf("a hook failed:\n%s", status)
	}
}
