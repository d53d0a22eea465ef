package nettest

import (
	"fmt"
	"net"
	"testing"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/netlab"
)

// Inject sends a complete Ethernet frame from an interface, as it is.
func Inject(t testing.TB, host *netlab.Host, ifname string, frame []byte) {
	t.Helper()
	err := host.Do(func() error {
		ifi, err := net.InterfaceByName(ifname)
		if err != nil {
			return err
		}
		conn, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_LOOP, nil) // receives nothing that there is
		if err != nil {
			return fmt.Errorf("inject: %w", err)
		}
		defer conn.Close()
		_, err = conn.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
