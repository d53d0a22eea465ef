package balance

// A rule is one without which a flow can be torn from a living backend. Tests switch them off, one
// at a time, to see that the simulation would notice.
type rule uint8

const (
	ruleNone        rule = iota
	ruleKept             // a slot that leaves a living backend keeps what lives there
	ruleOldest           // its previous backend stays when it changes again
	ruleLearnt           // it is moving as long as a connection may be silent
	ruleLearntAgain      // also when it went back in between
	ruleOpened           // and as long as a connection may take to open
	ruleNoted            // flows of UDP are noted before it leaves
	ruleExceptions       // a slot that moved has exceptions
	ruleSeenTwice        // until who was seen once was seen again
	ruleSeen             // and the datapath remembers nobody
	ruleApplied          // no time passes for what the datapath does not do yet
	ruleHeard            // nobody comes back before the datapath has heard that it died
	rulePlaces           // places stay while a slot or flow names them
	ruleRestored         // who comes after a restart goes on where the datapath is
	ruleCount
)

func (s *Service) keeps(r rule) bool { return s.broken != r }
