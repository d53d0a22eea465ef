package datapath

import "fmt"

// A Verdict is what becomes of a frame.
type Verdict string

// The verdicts: to the stack untouched, to the stack as ours, dropped, answered, sent on to another
// node, or sent to a backend. The egress guard's are of frames that this machine's stack sent.
const (
	VerdictPass     Verdict = "pass"
	VerdictAccept   Verdict = "accept"
	VerdictDrop     Verdict = "drop"
	VerdictAnswer   Verdict = "answer"
	VerdictDelegate Verdict = "delegate"
	VerdictForward  Verdict = "forward"
	VerdictGuard    Verdict = "guard"
)

// A Reason is why the program ended where it did.
type Reason struct {
	Name        string  `json:"name"`
	Verdict     Verdict `json:"verdict"`
	Explanation string  `json:"explanation"`
}

// reasons is indexed by enum reason; a test compares it with the BTF of the object.
var reasons = [lbReasonREASON_COUNT]Reason{
	lbReasonREASON_NOT_IP:             {Name: "not-ip", Explanation: "neither IPv4, IPv6 nor ARP"},
	lbReasonREASON_NOT_VIP:            {Name: "not-vip", Explanation: "not for an address that is served here"},
	lbReasonREASON_UNPARSED:           {Name: "unparsed", Explanation: "a header is cut short or wrong; the stack decides"},
	lbReasonREASON_OTHER_HOST:         {Name: "other-host", Explanation: "for a VIP, but sent to another machine's MAC"},
	lbReasonREASON_OTHER_INTERFACE:    {Name: "other-interface", Explanation: "for a VIP that is announced on another interface"},
	lbReasonREASON_ACCEPTED:           {Name: "accepted", Explanation: "this node owns the flow's bucket"},
	lbReasonREASON_DIRECT:             {Name: "direct", Explanation: "sent to this node's own MAC, so nobody else has it"},
	lbReasonREASON_ECHO_ACCEPTED:      {Name: "echo-accepted", Explanation: "a ping; this node owns the sender's bucket"},
	lbReasonREASON_UNNAMED_ACCEPTED:   {Name: "unnamed-accepted", Explanation: "no service names it; this node owns the sender's bucket"},
	lbReasonREASON_ERROR_ACCEPTED:     {Name: "error-accepted", Explanation: "an ICMP error about a flow of this node"},
	lbReasonREASON_ERROR_UNKNOWN:      {Name: "error-unknown", Explanation: "an ICMP error that quotes no flow of a VIP; never answered, so every node may have it"},
	lbReasonREASON_FRAGMENT_ACCEPTED:  {Name: "fragment-accepted", Explanation: "follows a first fragment that was accepted"},
	lbReasonREASON_FRAGMENT_UNKNOWN:   {Name: "fragment-unknown", Explanation: "its first fragment was not seen; only the owner's stack completes it"},
	lbReasonREASON_SOCKET_ACCEPTED:    {Name: "socket-accepted", Explanation: "a socket of this node has the connection, whoever owns its bucket now"},
	lbReasonREASON_COOKIE_ACCEPTED:    {Name: "cookie-accepted", Explanation: "it answers a SYN cookie of a listener of this node"},
	lbReasonREASON_UDP_KEPT:           {Name: "udp-kept", Explanation: "a UDP flow that stays at this node while its bucket moves"},
	lbReasonREASON_NOT_OWNER:          {Name: "not-owner", Explanation: "another node owns the flow's bucket"},
	lbReasonREASON_NO_OWNER:           {Name: "no-owner", Explanation: "no node is eligible for the bucket"},
	lbReasonREASON_ECHO_NOT_OWNER:     {Name: "echo-not-owner", Explanation: "a ping; another node owns the sender's bucket"},
	lbReasonREASON_UNNAMED_NOT_OWNER:  {Name: "unnamed-not-owner", Explanation: "no service names it; another node owns the sender's bucket"},
	lbReasonREASON_UNNAMED_DROPPED:    {Name: "unnamed-dropped", Explanation: "no service names it, and the VIP drops such traffic"},
	lbReasonREASON_ERROR_NOT_OWNER:    {Name: "error-not-owner", Explanation: "an ICMP error about a flow of another node"},
	lbReasonREASON_FRAGMENT_NOT_OWNER: {Name: "fragment-not-owner", Explanation: "follows a first fragment that was dropped"},
	lbReasonREASON_ARP_NOT_OWNER:      {Name: "arp-not-owner", Explanation: "another node answers this ARP request"},
	lbReasonREASON_ARP_CONFLICT:       {Name: "arp-conflict", Explanation: "another machine claims a VIP by ARP"},
	lbReasonREASON_ND_NOT_OWNER:       {Name: "nd-not-owner", Explanation: "another node answers this neighbor solicitation"},
	lbReasonREASON_ND_MALFORMED:       {Name: "nd-malformed", Explanation: "neighbor discovery that RFC 4861 section 7.1 says to discard"},
	lbReasonREASON_ND_CONFLICT:        {Name: "nd-conflict", Explanation: "another machine claims a VIP by neighbor discovery"},
	lbReasonREASON_UNKNOWN_FLOW:       {Name: "unknown-flow", Explanation: "no socket of this node has the connection, but another node's may: no reset is sent"},
	lbReasonREASON_UDP_AWAY:           {Name: "udp-away", Explanation: "this node owns the bucket, but its old owner still decides about UDP"},
	lbReasonREASON_LAPSED:             {Name: "lapsed", Explanation: "a new flow, or one to a backend, but this node's lease has ended"},
	lbReasonREASON_NOT_ANNOUNCED:      {Name: "not-announced", Explanation: "ARP or neighbor discovery for a VIP that others bring packets of"},
	lbReasonREASON_NO_BACKEND:         {Name: "no-backend", Explanation: "no backend of the service takes flows"},
	lbReasonREASON_NO_WAY:             {Name: "no-way", Explanation: "the next hop to its backend is not known"},
	lbReasonREASON_NO_PORT:            {Name: "no-port", Explanation: "full NAT: all source ports that were looked at are taken"},
	lbReasonREASON_EXPIRED:            {Name: "expired", Explanation: "its TTL or hop limit ends here"},
	lbReasonREASON_NOT_TRANSLATED:     {Name: "not-translated", Explanation: "for a NAT backend, but a header is cut off before its checksum"},
	lbReasonREASON_FULL:               {Name: "full", Explanation: "a new flow, and the backends have as many connections as they may"},
	lbReasonREASON_REPLY_HELD:         {Name: "reply-held", Explanation: "a NAT backend's reply whose next hop is not known yet, or that cannot go on as it is: the stack sees to it"},
	lbReasonREASON_REPLIED:            {Name: "replied", Explanation: "a NAT backend's reply, sent on from its VIP"},
	lbReasonREASON_REPLY_REDIRECTED:   {Name: "reply-redirected", Explanation: "a NAT backend's reply, sent on from its VIP by another interface"},
	lbReasonREASON_TOO_BIG:            {Name: "too-big", Explanation: "too big for the tunnel to its backend"},
	lbReasonREASON_EXPIRED_ANSWERED:   {Name: "expired-answered", Explanation: "its TTL or hop limit ends here: the client is told by time exceeded"},
	lbReasonREASON_TOO_BIG_ANSWERED:   {Name: "too-big-answered", Explanation: "too big for the tunnel to its backend: the client is told what fits"},
	lbReasonREASON_FORWARDED:          {Name: "forwarded", Explanation: "sent to the backend of its slot"},
	lbReasonREASON_REDIRECTED:         {Name: "redirected", Explanation: "sent to the backend of its slot, by another interface"},
	lbReasonREASON_ARP_ANSWERED:       {Name: "arp-answered", Explanation: "an ARP request answered with the shared MAC"},
	lbReasonREASON_ND_ANSWERED:        {Name: "nd-answered", Explanation: "a neighbor solicitation answered with the shared MAC"},
	lbReasonREASON_HANDED_ON:          {Name: "handed-on", Explanation: "it came to this node alone and may be another's: handed to all nodes"},
	lbReasonREASON_DELEGATED:          {Name: "delegated", Explanation: "a new flow of a bucket that moves, sent on to its new owner"},
	lbReasonREASON_ARP_MASKED:         {Name: "arp-masked", Explanation: "an outgoing ARP request's sender, a VIP, was cleared: it would have taught this node's MAC"},
	lbReasonREASON_ARP_SUPPRESSED:     {Name: "arp-suppressed", Explanation: "an outgoing ARP announcement for a VIP was dropped"},
	lbReasonREASON_ND_SUPPRESSED:      {Name: "nd-suppressed", Explanation: "outgoing neighbor discovery for a VIP was dropped"},
	lbReasonREASON_SHARED_SOURCE:      {Name: "shared-source", Explanation: "an outgoing frame from a group MAC was dropped"},
}

// Reasons lists every reason in the order of their numbers.
func Reasons() []Reason {
	list := make([]Reason, len(reasons))
	for i := range reasons {
		list[i] = reasonOf(uint32(i))
	}
	return list
}

func reasonOf(n uint32) Reason {
	if n >= uint32(len(reasons)) {
		return Reason{Name: fmt.Sprintf("reason-%d", n), Explanation: "of a newer program"}
	}
	r := reasons[n]
	r.Verdict = verdictOf(lbReason(n))
	return r
}

// verdictOf follows from a reason's place, as in the program.
func verdictOf(r lbReason) Verdict {
	switch {
	case r < lbReasonREASON_FIRST_ACCEPT:
		return VerdictPass
	case r < lbReasonREASON_FIRST_DROP:
		return VerdictAccept
	case r < lbReasonREASON_FIRST_TX:
		return VerdictDrop
	case r < lbReasonREASON_FIRST_DELEGATE:
		return VerdictAnswer
	case r < lbReasonREASON_FIRST_FORWARD:
		return VerdictDelegate
	case r < lbReasonREASON_FIRST_GUARD:
		return VerdictForward
	}
	return VerdictGuard
}
