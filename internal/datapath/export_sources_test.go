package datapath

import "time"

// OwnBlocks are the blocks of source ports that a director gives out.
var OwnBlocks = ownBlocks

// AgeSources makes what is known of established flows of full NAT older.
func (i *Instance) AgeSources(by time.Duration) error {
	entries, err := i.set.sources()
	if err != nil {
		return err
	}
	for _, e := range entries {
		flow := e.flow()
		e.returned.SeenNs -= uint64(by)
		e.source.SeenNs -= uint64(by)
		e.source.HeardNs -= uint64(by)
		if err := i.set.maps["returns"].Put(&e.key, &e.returned); err != nil {
			return err
		}
		if err := i.set.maps["sources"].Put(&flow, &e.source); err != nil {
			return err
		}
	}
	return nil
}
