package ownership

// A rule is one without which two nodes can come to accept the same flow, or a flow can die. Tests
// switch them off, one at a time, to see that the simulation would notice.
type rule uint8

const (
	ruleNone            rule = iota
	ruleThreeWay             // N passes nothing on before O has let go
	ruleLives                // messages of and for other lives do not count
	ruleSameKnowledge        // an offer is taken, and a claim granted, only with equal knowledge
	ruleLapse                // a lease that ended is never renewed
	ruleBeingHeard           // a node that is heard by too few gets no lease
	ruleAskAll               // a token is made anew only when every living node agreed
	ruleGrantSilent          // no grant while a dead node is heard
	ruleUnsure               // while unsure whether N took it, O hands it to nobody else
	ruleLineage              // the younger of two lineages gives up
	ruleContested            // what others may hold is not answered with a RST
	ruleAgreeOnDeath         // one node alone declares nobody dead
	ruleLeave                // who has leave is not declared dead
	ruleBackInSight          // who was without a witness listens anew before it takes others for dead
	ruleStranger             // nobody founds a cluster who hears a node that it knows nothing of
	ruleJoinedElsewhere      // who was not asked by a new member was on the other side of a cut, and yields
	ruleCount
)

func (m *Machine) keeps(r rule) bool { return m.broken != r }
