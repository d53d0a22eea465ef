package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// A part of nftables, by the module that has it and the option that builds it.
type part struct {
	module, option string
	rules          []rule
}

// parts are those that our table needs, each with all that it stands on.
func parts() []part {
	return []part{
		{module: "nf_tables", option: "NF_TABLES_INET"},
		{module: "nft_chain_nat", option: "NFT_NAT", rules: []rule{}},
		{module: "nft_nat", option: "NFT_NAT", rules: []rule{translate(netip.IPv4Unspecified())}},
		{module: "nft_masq", option: "NFT_MASQ", rules: []rule{translate(netip.Addr{})}},
	}
}

// absent says whether the kernel refuses something because it has no such thing.
func absent(err error) bool {
	for _, number := range []error{unix.ENOENT, unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT} {
		if errors.Is(err, number) {
			return true
		}
	}
	return false
}

// explained names what the kernel is without, as its own answer does not.
func explained(err error, try func(part) error) error {
	if !absent(err) {
		return err
	}
	var lacking []string
	for _, p := range parts() {
		if absent(try(p)) {
			lacking = append(lacking, fmt.Sprintf("%s (CONFIG_%s)", p.module, p.option))
		}
		if len(lacking) > 0 && p.rules == nil {
			break // without tables, nothing else can be tried
		}
	}
	if len(lacking) == 0 {
		return err
	}
	return fmt.Errorf("this kernel has no %s: load or install it, or leave masquerade out: %w", strings.Join(lacking, ", "), err)
}

// try adds a table that uses the part, and removes it in the same transaction.
func try(p part) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	trial := table(tableName + "-trial")
	conn.AddTable(trial)
	if p.rules != nil {
		into := conn.AddChain(chain(trial))
		for _, r := range p.rules {
			conn.AddRule(&nftables.Rule{Table: trial, Chain: into, Exprs: r})
		}
	}
	conn.DelTable(trial)
	return conn.Flush()
}
