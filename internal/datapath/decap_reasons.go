package datapath

// decapReasons is indexed by enum decap_reason; a test compares it with the BTF of the object.
var decapReasons = [decapDecapReasonDECAP_COUNT]Reason{
	decapDecapReasonDECAP_NO_TUNNEL:  {Name: "no-tunnel", Verdict: VerdictPass, Explanation: "no packet in a packet"},
	decapDecapReasonDECAP_OTHER_HOST: {Name: "other-host", Verdict: VerdictPass, Explanation: "a tunnel that ends at another machine's address"},
	decapDecapReasonDECAP_STRANGER:   {Name: "stranger", Verdict: VerdictPass, Explanation: "a tunnel to this machine, but from no director; the stack decides"},
	decapDecapReasonDECAP_UNWRAPPED:  {Name: "unwrapped", Verdict: VerdictAccept, Explanation: "a client's packet, taken out of a director's tunnel"},
	decapDecapReasonDECAP_MALFORMED:  {Name: "malformed", Verdict: VerdictDrop, Explanation: "from a director, with no packet in it that can be read"},
	decapDecapReasonDECAP_NO_VIP:     {Name: "no-vip", Verdict: VerdictDrop, Explanation: "a packet for an address that is not served here came out of a tunnel"},
	decapDecapReasonDECAP_CONGESTED:  {Name: "congested", Verdict: VerdictDrop, Explanation: "marked as congested on its way, and the packet in it cannot say so (RFC 6040)"},
	decapDecapReasonDECAP_FAILED:     {Name: "failed", Verdict: VerdictDrop, Explanation: "the kernel did not move the start of the frame"},
}
