package cli

import (
	"fmt"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/spf13/cobra"
)

// An ownerResult is what lbctl owner prints.
type ownerResult struct {
	Node        string `json:"node"`
	Local       bool   `json:"local"` // the node is this machine
	Protocol    string `json:"protocol"`
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Service     string `json:"service"` // empty: no service names it
	Table       uint32 `json:"table"`
	Bucket      uint32 `json:"bucket"`
	Hash        uint64 `json:"hash"`
	HashOf      string `json:"hash_of"`     // what the service hashes: "source+port"
	SourcePort  bool   `json:"source_port"` // the source port takes part in the hash
}

func ownerCommand(a *app) *cobra.Command {
	var protocol string
	cmd := &cobra.Command{
		Use:   "owner SRC[:PORT] VIP[:PORT]",
		Short: "Say which node serves a client, and why",
		Long: `Asks the maps of this machine which node a client's packets belong to. The source port may be
left out where it takes no part in the service's hash. Works with lbd running or not; needs root.
Exit code 1 when nobody serves the client.`,
		Example: `  lbctl owner 198.51.100.7 192.0.2.80:443
  lbctl owner [2001:db8::7]:40000 [2001:db8:1::80]:53 --protocol udp
  lbctl owner 198.51.100.7 192.0.2.80 --protocol icmp`,
		Args: args(cobra.ExactArgs(2)),
		RunE: func(_ *cobra.Command, args []string) error {
			q, err := parseQuestion(protocol, args[0], args[1])
			if err != nil {
				return usageError{err}
			}
			view, err := datapath.OpenView(a.bpfDir)
			if err != nil {
				return err
			}
			defer view.Close()
			result, err := findOwner(view, q)
			if err != nil {
				return err
			}
			return a.print(result, func(s *screen) { ownerLines(s, result) })
		},
	}
	cmd.Flags().StringVar(&protocol, "protocol", "tcp", "`PROTOCOL`: tcp, udp or icmp")
	return cmd
}

func findOwner(view *datapath.View, q question) (*ownerResult, error) {
	f := &frame{from: madeUpMAC, protocol: q.protocol, source: q.source, dest: q.dest, tcpFlags: tcpSYN}
	r, err := runTrace(view, f, "shared", "")
	if err != nil {
		return nil, err
	}
	if r.Bucket == nil || r.Bucket.Node == "" {
		source, dest := q.ends()
		return nil, fmt.Errorf("nobody serves %s at %s: %s", source, dest, r.Reason.Explanation)
	}
	o := &ownerResult{
		Node:     r.Bucket.Node,
		Local:    r.Bucket.Verb == "accept",
		Protocol: protocolName(r.Flow.Protocol),
		Service:  r.Service,
		Table:    r.Bucket.Table,
		Bucket:   r.Bucket.Index,
		Hash:     r.Bucket.Hash,
	}
	if o.HashOf, err = hashOf(view, r.Service); err != nil {
		return nil, err
	}
	o.SourcePort = o.HashOf == lb.HashSourcePort.String() || o.HashOf == lb.HashSourcePortDestPort.String()
	if o.SourcePort && q.anySourcePort {
		return nil, usageError{fmt.Errorf("the source port takes part in the hash of service %s: say SRC:PORT",
			r.Service)}
	}
	o.Source, o.Destination = q.ends()
	return o, nil
}

// hashOf names what a service hashes; what no service names goes by source address.
func hashOf(view *datapath.View, service string) (string, error) {
	dump, err := view.Dump()
	if err != nil {
		return "", err
	}
	for _, s := range dump.Services {
		if s.Name == service {
			return s.Hash, nil
		}
	}
	return lb.HashSource.String(), nil
}

// ownerLines is the short answer first.
func ownerLines(s *screen, o *ownerResult) {
	node := s.paint(bold, o.Node)
	if o.Local {
		node += ", this node"
	}
	s.line("%s", node)
	s.line("  flow     %s %s -> %s", o.Protocol, o.Source, o.Destination)
	if o.Service == "" {
		s.line("  service  none: the VIP's own table, by source address")
	} else {
		s.line("  service  %s", o.Service)
	}
	s.line("  hash     %#016x of %s: the source port takes %s", o.Hash, o.HashOf, map[bool]string{true: "part", false: "no part"}[o.SourcePort])
	s.line("  bucket   %d of table %d", o.Bucket, o.Table)
}
