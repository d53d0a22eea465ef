package ownership

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// amend changes this node's record.
func (m *Machine) amend(change func(*Record)) {
	r := new(Record)
	if old := m.self(); old != nil {
		*r = *old
	}
	change(r)
	r.Version++
	if m.cfg.Sign != nil {
		r.Signature = m.cfg.Sign(r.appendSigned(nil))
	}
	m.Known[m.cfg.Name] = r
	m.learnt(m.cfg.Name)
}

// learnt follows a change of knowledge: everything that was begun under other knowledge is void.
func (m *Machine) learnt(about string) {
	m.fingerprint = m.Known.fingerprint()
	m.claiming, m.planned, m.settled = nil, false, false
	m.changedAt = m.now
	m.news[about] = true
}

func (m *Machine) onState(from string, msg State) {
	if m.disputes(from, msg) {
		return
	}
	m.yieldTo(msg)
	before := m.fingerprint
	for i := range msg.Records {
		m.merge(&msg.Records[i])
	}
	p := m.peer(from)
	if p.Life < msg.Life || p.Life == msg.Life && p.StateNumber < msg.Number {
		m.stir = m.stir || p.Fingerprint != msg.Knowledge
		p.Life, p.StateNumber, p.Fingerprint = msg.Life, msg.Number, msg.Knowledge
		if m.fingerprint == before && msg.Knowledge != before {
			m.send(from, m.state(slices.Sorted(maps.Keys(m.Known))))
		}
	}
	for _, a := range msg.Absences {
		m.allow(a)
	}
}

// merge takes a record, if it is news.
func (m *Machine) merge(r *Record) {
	if r.Name == m.cfg.Name {
		m.mergeSelf(r)
		return
	}
	old := m.Known[r.Name]
	if old != nil && !r.newer(old) || old == nil && len(m.Known) >= maxRecords {
		return
	}
	if m.cfg.Verify != nil && !m.cfg.Verify(r.Name, r.appendSigned(nil), r.Signature) {
		return
	}
	m.know(r)
	if old == nil || old.Stage != r.Stage || old.Dead != r.Dead || old.Life != r.Life {
		m.happened(Happening{Kind: HappeningMember, Node: r.Name, Reason: r.describe()})
	}
}

// know replaces what is known of a peer.
func (m *Machine) know(r *Record) {
	old := m.Known[r.Name]
	clone := *r
	m.Known[r.Name] = &clone
	if r.Dead || r.Config == m.cfg.Fingerprint {
		delete(m.conflicts, r.Name)
	}
	if old != nil && (old.Life != r.Life || old.Dead != r.Dead) {
		m.abandon(old, r)
	}
	if old == nil || old.Life != r.Life {
		m.peer(r.Name).HostGone = false
		m.maybeNews = true
	}
	m.learnt(r.Name)
}

// mergeSelf finds out what others believe about this node. What they know of a later life, from a
// process before this one whose life was not stored, must be topped.
func (m *Machine) mergeSelf(r *Record) {
	switch {
	case r.Life > m.Life:
		m.Life = r.Life
		m.loseLife("a later life is known")
	case r.Life == m.Life && r.Dead:
		m.loseLife("declared dead")
	}
}

func (r *Record) describe() string {
	switch {
	case r.Dead:
		return "dead"
	case r.Leaving:
		return "leaving"
	case r.Stage == StageMember && r.Waiting:
		return "member, waiting"
	}
	return r.Stage.String()
}

// abandon ends what was begun with a life of a peer that is over. Where the peer itself says so, what it
// was offered is ours again, and what it gave is ours alone. A death is only what others believe: what
// was under way then is given up, and made anew when everybody has agreed.
func (m *Machine) abandon(old, now *Record) {
	p := m.peer(old.Name)
	sure := now.Life != old.Life || now.Stage == StageLeft
	if !old.Dead {
		m.hauntAll(p, old.Life)
	}
	for _, mv := range append(m.In[old.Name], m.Out[old.Name]) {
		switch {
		case mv == nil:
			continue
		case sure:
			m.keep(mv.Parts)
		default:
			m.forgetMove(mv)
			m.changed = true
		}
		m.haunt(p, old.Life, never, mv.Parts)
	}
	delete(m.Out, old.Name)
	delete(m.In, old.Name)
	p.Fingerprint, p.Opinion, p.OpinionAt = 0, nil, 0
	p.Says, p.At = saidNothing, 0
	m.exorcise(old.Name)
}

// loseLife begins a new life with empty hands. Until its sockets are counted it may have flows everywhere:
// also in what others sent on to it while they waited for an answer.
func (m *Machine) loseLife(reason string) {
	old := m.self()
	m.Life++
	for _, d := range m.Tokens {
		m.drop(d, m.everything())
		d.Keep = nil
	}
	for _, name := range slices.Sorted(maps.Keys(m.Out)) {
		m.forgetMove(m.Out[name])
	}
	for _, name := range slices.Sorted(maps.Keys(m.In)) {
		for _, in := range m.In[name] {
			m.forgetMove(in)
		}
	}
	clear(m.Out)
	clear(m.In)
	m.Until, m.Leave, m.Ended, m.Began = 0, nil, 0, m.now
	m.Resets = append(m.Resets, m.now)
	m.Resets = m.Resets[max(0, len(m.Resets)-2):]
	m.amend(func(r *Record) {
		*r = Record{
			Name: old.Name, Life: m.Life, Leaving: old.Leaving,
			Config: m.cfg.Fingerprint, Weights: old.Weights, Meta: old.Meta,
		}
	})
	m.maybeChanged()
	m.actions.NewLife = m.Life
	m.happened(Happening{Kind: HappeningNewLife, Node: m.cfg.Name, Reason: reason})
}

// forgetMove leaves buckets that were on their way, in either direction.
func (m *Machine) forgetMove(mv *move) {
	for _, part := range mv.Parts {
		m.drop(m.domain(part.Domain), part.Set)
	}
}

// yieldLineage gives everything up when an older group is there: both made tokens of their own.
func (m *Machine) yieldLineage() {
	me := m.self()
	if me.Stage != StageMember || !m.keeps(ruleLineage) {
		return
	}
	oldest := m.Known.lineage(m.cfg.Name)
	if oldest != nil && oldest.Lineage.Compare(me.Lineage) < 0 {
		m.loseLife(fmt.Sprintf("%s belongs to an older cluster", oldest.Name))
	}
}

// silent says whether nothing comes from a peer. In a life that has just begun nobody is: who was
// paused missed everybody, and what it missed may be about to come.
func (m *Machine) silent(name string) bool {
	p := m.peer(name)
	if m.now-m.Began <= m.cfg.DeadAfter {
		return false
	}
	if p.Told {
		return p.Silent
	}
	return m.now-p.Heard > m.cfg.DeadAfter
}

// missing says whether a peer is silent and has no leave to be.
func (m *Machine) missing(name string) bool { return m.silent(name) && !m.excused(name) }

// declareDeaths declares a node dead when all who can be heard miss it. Only who has a lease does:
// a deaf node misses everybody, and nobody confirms that he hears a mute one.
func (m *Machine) declareDeaths() {
	if !m.leased() || m.self().Stage == StageDown || m.onLeave() {
		return
	}
	for _, name := range m.others() {
		if r := m.Known[name]; !r.Dead && m.missing(name) && m.agreedDead(name, r.Life) {
			dead := *r
			dead.Dead = true
			m.know(&dead)
			m.happened(Happening{Kind: HappeningDied, Node: name})
		}
	}
}

// agreedDead asks the opinions of all who can be heard. For a majority those must be one, so that
// among them is somebody who would have confirmed the node's last lease.
func (m *Machine) agreedDead(name string, life uint64) bool {
	if !m.keeps(ruleAgreeOnDeath) {
		return true
	}
	voters := 0
	if m.cfg.expects(m.cfg.Name) {
		voters++
	}
	for _, voter := range m.others() {
		if voter == name || m.Known[voter].Dead || m.silent(voter) {
			continue
		}
		p := m.peer(voter)
		if p.OpinionAt == 0 || m.now-p.OpinionAt > m.cfg.DeadAfter || !slices.Contains(p.Opinion, Ref{name, life}) {
			return false
		}
		if m.cfg.expects(voter) {
			voters++
		}
	}
	return m.cfg.Policy != PolicyMajority || voters >= m.cfg.quorum()
}

func (m *Machine) onOpinion(from string, msg Opinion) {
	p := m.peer(from)
	if !m.Known.is(from, msg.Life) || p.OpinionLife == msg.Life && msg.Number <= p.OpinionNumber {
		return
	}
	p.Opinion, p.OpinionLife, p.OpinionNumber, p.OpinionAt = msg.Silent, msg.Life, msg.Number, m.now
}

// opinion lists whom this node misses.
func (m *Machine) opinion() []Ref {
	var refs []Ref
	for _, name := range m.others() {
		if r := m.Known[name]; !r.Dead && m.missing(name) {
			refs = append(refs, Ref{name, r.Life})
		}
	}
	return refs
}

// advance brings this node's life to its next stage.
func (m *Machine) advance() {
	me := m.self()
	if me.Stage == StageDown && m.Ready && m.leased() {
		m.amend(func(r *Record) { r.Stage = StageUp })
	}
	if m.self().Stage == StageUp && m.leased() && m.agreed() {
		m.join()
	}
	if me = m.self(); me.Stage == StageMember && me.Waiting && m.damped() <= m.now {
		m.amend(func(r *Record) { r.Waiting = false })
	}
}

// agreed says whether every living node has reported to know what this one knows. It knew it at some
// time, so it still does. Those that were down when they were heard last may not be any more.
func (m *Machine) agreed() bool {
	for name, r := range m.Known {
		if name != m.cfg.Name && !r.Dead && !m.agrees(name) {
			return false
		}
	}
	return true
}

func (m *Machine) agrees(name string) bool {
	p, r := m.peer(name), m.Known[name]
	return p.Life == r.Life && p.Fingerprint == m.fingerprint
}

// join adopts the lineage that is there, or founds one. Everybody who could make tokens knows this
// node by then, and will ask it; that is why a life has the stage StageUp.
func (m *Machine) join() {
	oldest := m.Known.lineage(m.cfg.Name)
	if oldest == nil {
		m.found()
		return
	}
	if oldest.Config != m.cfg.Fingerprint {
		m.conflict(oldest.Name)
		return
	}
	waiting := m.damped() > m.now
	m.amend(func(r *Record) { r.Stage, r.Lineage, r.Waiting = StageMember, oldest.Lineage, waiting })
	m.happened(Happening{Kind: HappeningAdopted, Node: oldest.Lineage.Founder})
}

// found begins a lineage, if this node is the one to: the first by name of those with the
// configuration that most have.
func (m *Machine) found() {
	votes, voters := make(map[uint64]int), 0
	for _, r := range m.Known {
		if !r.Dead && r.Stage == StageUp {
			votes[r.Config]++
			if m.cfg.expects(r.Name) {
				voters++
			}
		}
	}
	if m.cfg.Policy == PolicyMajority && voters < m.cfg.quorum() || m.hearsStranger() {
		return
	}
	if m.now-m.Born < m.cfg.BootTimeout {
		for _, name := range m.cfg.Expected {
			if m.Known[name] == nil {
				return
			}
		}
	}
	if first := m.first(votes); first != m.cfg.Name {
		if m.Known[first].Config != m.cfg.Fingerprint {
			m.conflict(first)
		}
		return
	}
	waiting := m.damped() > m.now
	m.amend(func(r *Record) {
		r.Stage, r.Lineage, r.Waiting = StageMember, Lineage{m.Life, m.cfg.Name}, waiting
	})
	m.happened(Happening{Kind: HappeningFounded, Node: m.cfg.Name})
}

// hearsStranger says whether somebody is heard of whom nothing is known: it may belong to a cluster that
// goes on.
func (m *Machine) hearsStranger() bool {
	for name, p := range m.Peers {
		if m.Known[name] == nil && p.Told && !p.Silent {
			return m.keeps(ruleStranger)
		}
	}
	return false
}

func (m *Machine) first(votes map[uint64]int) string {
	best := ""
	for _, r := range m.Known.sorted() {
		if !r.Dead && r.Stage == StageUp && (best == "" || votes[r.Config] > votes[m.Known[best].Config]) {
			best = r.Name
		}
	}
	return best
}

func (m *Machine) conflict(name string) {
	if !m.conflicts[name] {
		m.conflicts[name] = true
		m.happened(Happening{Kind: HappeningConflict, Node: name, Reason: "configuration differs"})
	}
}

// damped is the time until which a node that lost its last life soon after the one before waits.
func (m *Machine) damped() time.Duration {
	if len(m.Resets) < 2 {
		return 0
	}
	return m.Resets[0] + m.cfg.FlapWindow
}
