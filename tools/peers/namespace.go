package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// receiver is the name of the interface that frames arrive on.
const receiver = "rx0"

// namespace is a node: the VIP on lo, a socket that never reads, and an interface. It lives as long
// as the process.
type namespace struct {
	file    *os.File
	socket  int
	ifindex int
	// Of directors:
	returned *ebpf.Map // counts the frames that were sent back
	peer     link.Link // of the program that does
}

// newNamespace leaves the calling thread in the new namespace.
func newNamespace() (*namespace, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	file, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	ns := &namespace{file: file}
	if ns.ifindex, err = addLinks(); err != nil {
		return nil, err
	}
	ns.socket, err = listen()
	return ns, err
}

func (ns *namespace) enter() error {
	return unix.Setns(int(ns.file.Fd()), unix.CLONE_NEWNET)
}

func addLinks() (ifindex int, err error) {
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: receiver}, PeerName: "tx0"}
	if err := netlink.LinkAdd(veth); err != nil {
		return 0, fmt.Errorf("add veth %s: %w", receiver, err)
	}
	for _, name := range []string{"lo", receiver, "tx0"} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return 0, err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return 0, fmt.Errorf("set %s up: %w", name, err)
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return 0, err
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(vip), Mask: net.CIDRMask(32, 32)}}
	if err := netlink.AddrAdd(lo, address); err != nil {
		return 0, fmt.Errorf("add %s: %w", vip, err)
	}
	link, err := netlink.LinkByName(receiver)
	if err != nil {
		return 0, err
	}
	return link.Attrs().Index, nil
}

// listen opens a socket whose queue a few frames fill.
func listen() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil {
		return -1, err
	}
	address := unix.SockaddrInet4{Port: port}
	copy(address.Addr[:], net.ParseIP(vip).To4())
	if err := unix.Bind(fd, &address); err != nil {
		return -1, fmt.Errorf("bind to %s:%d: %w", vip, port, err)
	}
	return fd, nil
}

// queueFull counts the datagrams that reached a socket of the current namespace and found its
// queue full: RcvbufErrors of UDP in /proc/net/snmp, a line of names above a line of values.
func queueFull() (int, error) {
	file, err := os.Open("/proc/thread-self/net/snmp")
	if err != nil {
		return 0, err
	}
	defer file.Close()
	var names []string
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if fields[0] != "Udp:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		if i := slices.Index(names, "RcvbufErrors"); i >= 0 && i < len(fields) {
			return strconv.Atoi(fields[i])
		}
	}
	return 0, fmt.Errorf("%s: no RcvbufErrors of UDP", file.Name())
}
