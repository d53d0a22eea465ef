package cluster

import (
	"errors"
	"net/netip"
	"strings"
	"time"
)

// rejoin looks for peers where they should be and are not: memberlist itself never comes back to
// a node that was dead for a while, so that the two sides of a cut would stay apart.
func (c *Cluster) rejoin(run *run) {
	var configured []netip.AddrPort
	if c.opts.Peers != nil {
		configured = c.opts.Peers()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	missing := c.missing(configured)
	for addr := range c.unreached {
		if !missing[addr] {
			delete(c.unreached, addr) // found, or no longer looked for
		}
	}
	for addr := range missing {
		if !c.joining[addr] && !c.left {
			c.joining[addr] = true
			run.work.Go(func() { c.join(run, addr) })
		}
	}
}

// Rejoin looks for one peer now, because something else says that it is there again. An attempt that
// began while it was away may take long.
func (c *Cluster) Rejoin(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peers[name]
	if c.running == nil || c.left || p == nil || p.gossip || !p.Addr.IsValid() {
		return
	}
	run, addr := c.running, p.Addr
	run.work.Go(func() { c.join(run, addr) })
}

// missing returns the addresses where no peer is alive: configured ones, and those of the dead.
func (c *Cluster) missing(configured []netip.AddrPort) map[netip.AddrPort]bool {
	addrs := make(map[netip.AddrPort]bool)
	for _, addr := range configured {
		addrs[addr] = true
	}
	for _, p := range c.peers {
		if p.Addr.IsValid() {
			addrs[p.Addr] = true
		}
	}
	for _, p := range c.peers {
		if p.gossip {
			delete(addrs, p.Addr)
		}
	}
	delete(addrs, c.opts.Bind)
	return addrs
}

// join exchanges member lists with whoever is at addr.
func (c *Cluster) join(run *run, addr netip.AddrPort) {
	_, err := run.list.Join([]string{addr.String()})
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.joining, addr)
	old, was := c.unreached[addr]
	switch {
	case err == nil:
		delete(c.unreached, addr)
	case run.ctx.Err() != nil:
	case was:
		old.Error = reason(err, addr)
		c.unreached[addr] = old
	default:
		c.unreached[addr] = Unreached{Addr: addr, Error: reason(err, addr), Since: time.Now()}
		c.log.Warn("peer not reached", "addr", addr, "err", reason(err, addr))
	}
}

// reason returns what went wrong, without what memberlist puts around it: we asked for one address.
func reason(err error, addr netip.AddrPort) string {
	if inner := errors.Unwrap(err); inner != nil {
		err = inner
	}
	text := strings.TrimPrefix(err.Error(), "failed to join "+addr.String()+": ")
	if text == "EOF" {
		return "it closed the connection: is it of another cluster?"
	}
	return text
}
