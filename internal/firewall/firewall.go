// Package firewall keeps one nftables table: what machines behind this one begin themselves leaves with
// an address of this one. It touches no other table.
//
// The table is in the kernel, and goes on working without lbd.
//
// All calls act on the network namespace of the calling thread.
package firewall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// The names of all that is ours, in the family inet.
const (
	tableName = "lbd"
	chainName = "masquerade"
)

// A Firewall is our table. It is not safe for concurrent use.
type Firewall struct {
	notePath string
	applied  []rule // since the last look at the kernel's
}

// New returns a Firewall that notes in the file at notePath that there may be a table to remove one day.
// Without the note, no module of the kernel is asked for anything.
func New(notePath string) *Firewall { return &Firewall{notePath: notePath} }

// Set makes the table what want says, in one step: no packet meets half of it. Nothing to masquerade is
// no table.
func (f *Firewall) Set(ctx context.Context, want Want) error {
	rules := want.rules()
	if len(rules) == 0 {
		return f.Withdraw(ctx)
	}
	if slices.EqualFunc(f.applied, rules, rule.equal) {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := os.WriteFile(f.notePath, []byte("the nftables table inet "+tableName+" is lbd's\n"), 0o600); err != nil {
		return fmt.Errorf("masquerade: note: %w", err)
	}
	if wrong, err := difference(rules); err == nil && wrong == "" {
		f.applied = rules
		return nil
	}
	f.applied = nil
	if err := replace(rules); err != nil {
		return fmt.Errorf("masquerade: nftables table inet %s: %w", tableName, explained(err, try))
	}
	f.applied = rules
	return nil
}

// Possible says what keeps the kernel from having the table: it is tried by another one, which is gone
// in the same step.
func (f *Firewall) Possible(want Want) error {
	rules := want.rules()
	if len(rules) == 0 || slices.EqualFunc(f.applied, rules, rule.equal) {
		return nil
	}
	if err := try(part{rules: rules}); err != nil {
		return fmt.Errorf("masquerade: nftables table inet %s: %w", tableName, explained(err, try))
	}
	return nil
}

// Withdraw removes the table, if there ever was one.
func (f *Firewall) Withdraw(ctx context.Context) error {
	if _, err := os.Stat(f.notePath); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	f.applied = nil
	if err := replace(nil); err != nil && !absent(err) {
		return fmt.Errorf("masquerade: remove nftables table inet %s: %w", tableName, err)
	}
	if err := os.Remove(f.notePath); err != nil {
		return fmt.Errorf("masquerade: note: %w", err)
	}
	return nil
}

// Check says what somebody else did to the table; the next Set repairs it. Empty: nothing.
func (f *Firewall) Check(want Want) (drift string, err error) {
	rules := want.rules()
	if len(rules) == 0 {
		return "", nil
	}
	wrong, err := difference(rules)
	if err != nil {
		return "", fmt.Errorf("masquerade: read nftables table inet %s: %w", tableName, err)
	}
	if wrong == "" {
		return "", nil
	}
	f.applied = nil
	return fmt.Sprintf("nftables table inet %s: %s", tableName, wrong), nil
}

func table(name string) *nftables.Table {
	return &nftables.Table{Name: name, Family: nftables.TableFamilyINet}
}

func chain(of *nftables.Table) *nftables.Chain {
	return &nftables.Chain{
		Name: chainName, Table: of, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	}
}

// replace makes the table anew, or removes it, in one transaction. One that is removed in the
// transaction that adds it need not have been there.
func replace(rules []rule) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	ours := table(tableName)
	conn.AddTable(ours)
	conn.DelTable(ours)
	if rules != nil {
		conn.AddTable(ours)
		into := conn.AddChain(chain(ours))
		for _, r := range rules {
			conn.AddRule(&nftables.Rule{Table: ours, Chain: into, Exprs: r})
		}
	}
	return conn.Flush()
}

// difference says what is wrong with the table in the kernel; empty when it is as it should be.
func difference(rules []rule) (string, error) {
	conn, err := nftables.New()
	if err != nil {
		return "", err
	}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName })
	if i < 0 {
		return "missing, should be present", nil
	}
	if tables[i].Flags != 0 {
		return "switched off, should be on", nil
	}
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return "", err
	}
	chains = slices.DeleteFunc(chains, func(c *nftables.Chain) bool { return c.Table.Name != tableName })
	if len(chains) != 1 || !isOurs(chains[0]) {
		return "its chains were changed", nil
	}
	found, err := conn.GetRules(tables[i], chains[0])
	if err != nil {
		return "", err
	}
	if !slices.EqualFunc(found, rules, func(r *nftables.Rule, want rule) bool { return want.equal(r.Exprs) }) {
		return "its rules were changed", nil
	}
	return "", nil
}

func isOurs(c *nftables.Chain) bool {
	want := chain(c.Table)
	return c.Name == want.Name && c.Type == want.Type && c.Hooknum != nil && *c.Hooknum == *want.Hooknum &&
		c.Priority != nil && *c.Priority == *want.Priority && (c.Policy == nil || *c.Policy == nftables.ChainPolicyAccept)
}

// equal compares what the kernel is told.
func (r rule) equal(other rule) bool {
	return slices.EqualFunc(r, other, func(a, b expr.Any) bool {
		one, err := expr.Marshal(byte(nftables.TableFamilyINet), a)
		two, otherErr := expr.Marshal(byte(nftables.TableFamilyINet), b)
		return err == nil && otherErr == nil && bytes.Equal(one, two)
	})
}
