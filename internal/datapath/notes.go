package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
)

// A UDPFlow was noted while its bucket moved, see lb.MarkUDPNoted.
type UDPFlow struct {
	Remote, Local netip.AddrPort // the client, and the VIP
	Silent        time.Duration  // since its last datagram came, to a few milliseconds
}

// UDPFlows returns the flows that are noted, in no order. Among them may be some that are silent for
// longer than UDPIdle.
func (d *Datapath) UDPFlows() ([]UDPFlow, error) {
	notes, err := d.notes()
	if err != nil || notes == nil {
		return nil, err
	}
	defer notes.Close()
	for range readAgain {
		var flows []UDPFlow
		if flows, err = readNotes(notes); !errors.Is(err, ebpf.ErrIterationAborted) {
			return flows, err
		}
	}
	return nil, err
}

// readAgain is how often the map is read when flows that are added keep it from being read to its end.
const readAgain = 5

func readNotes(notes *ebpf.Map) ([]UDPFlow, error) {
	var flows []UDPFlow
	var key lbUdpFlow
	var seen lbUdpSeen
	now := Monotonic()
	it := notes.Iterate()
	for it.Next(&key, &seen) {
		flows = append(flows, UDPFlow{
			Remote: netip.AddrPortFrom(address(key.SrcHi, key.SrcLo), key.SrcPort),
			Local:  netip.AddrPortFrom(address(key.DstHi, key.DstLo), key.DstPort),
			Silent: max(0, now-time.Duration(seen.SeenNs)),
		})
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read noted flows: %w", err)
	}
	return flows, nil
}

// notes returns the map for reading, so that nobody has to wait meanwhile; nil before the first Set.
func (d *Datapath) notes() (*ebpf.Map, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.maps == nil {
		return nil, nil
	}
	notes, err := d.maps.maps["flows"].Clone()
	if err != nil {
		return nil, fmt.Errorf("read noted flows: %w", err)
	}
	return notes, nil
}
