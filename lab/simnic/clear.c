// SPDX-License-Identifier: GPL-2.0
/*
 * Which frame on the wire is VXLAN in clear. The judge looks at the frame
 * alone, not at rules, policies or which path the frame took.
 *
 * Counted is a frame that is
 *   Ethernet, with at most one 802.1Q or 802.1ad tag,
 *   then IPv4 with any options, or IPv6, with up to SIM_HEADERS headers of:
 *     hop-by-hop, routing, destination options, mobility, HIP, shim6,
 *     fragment, AH (it does not encrypt), IPv4 or IPv6 in IP,
 *   then UDP, and either
 *     its destination port is 4789, whatever it carries and however short, or
 *     neither port is 500 or 4500 (IKE, ESP in UDP) and it carries a VXLAN
 *     header: flags 08 00 00 00 (RFC 7348), or with the bits of VXLAN-GBP or
 *     VXLAN-GPE, last byte zero, and room for an inner Ethernet header.
 * Fragments: the first one is judged by the UDP header it holds; later ones
 * count if their first one counted (same addresses, protocol and id, at most
 * SIM_FRAGS datagrams and SIM_FRAG_TIME old). A later fragment that comes
 * before its first one is not counted.
 * ESP is never counted: what it hides cannot be seen.
 */
#include <linux/if_vlan.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <net/ipv6.h>
#include "simnic.h"

#define SIM_HEADERS 8
#define SIM_FRAG_TIME (30 * HZ)
#define SIM_VXLAN_PORT 4789

/* A walk over the headers of one linear frame. */
struct sim_walk {
	const u8 *at, *end;
	u8 proto;
	bool fragment, first;
	struct sim_frag_id id;
};

static const void *sim_walk_need(const struct sim_walk *w, size_t bytes)
{
	return w->end - w->at >= bytes ? w->at : NULL;
}

static bool sim_walk_ipv4(struct sim_walk *w)
{
	const struct iphdr *ip = sim_walk_need(w, sizeof(*ip));

	if (!ip || ip->version != 4 || ip->ihl < 5 ||
	    !sim_walk_need(w, ip->ihl * 4))
		return false;
	w->proto = ip->protocol;
	if (ip_is_fragment(ip)) {
		w->fragment = true;
		w->first = !(ip->frag_off & htons(IP_OFFSET));
		ipv6_addr_set_v4mapped(ip->saddr, &w->id.saddr);
		ipv6_addr_set_v4mapped(ip->daddr, &w->id.daddr);
		w->id.id = ntohs(ip->id);
		w->id.proto = ip->protocol;
	}
	w->at += ip->ihl * 4;
	return true;
}

static bool sim_walk_ipv6(struct sim_walk *w)
{
	const struct ipv6hdr *ip = sim_walk_need(w, sizeof(*ip));

	if (!ip || ip->version != 6)
		return false;
	w->proto = ip->nexthdr;
	if (!w->fragment) {
		w->id.saddr = ip->saddr;
		w->id.daddr = ip->daddr;
	}
	w->at += sizeof(*ip);
	return true;
}

static bool sim_walk_frag6(struct sim_walk *w)
{
	const struct frag_hdr *fh = sim_walk_need(w, sizeof(*fh));

	if (!fh)
		return false;
	w->fragment = true;
	w->first = !(fh->frag_off & htons(IP6_OFFSET));
	w->id.id = ntohl(fh->identification);
	w->id.proto = fh->nexthdr;
	w->proto = fh->nexthdr;
	w->at += sizeof(*fh);
	return true;
}

/* AH has its length in 4 bytes less two of them, the others in 8 less one */
static bool sim_walk_option(struct sim_walk *w)
{
	const struct ipv6_opt_hdr *oh = sim_walk_need(w, sizeof(*oh));
	size_t len;

	if (!oh)
		return false;
	len = w->proto == IPPROTO_AH ? (oh->hdrlen + 2) * 4 :
				       (oh->hdrlen + 1) * 8;
	if (!sim_walk_need(w, len))
		return false;
	w->proto = oh->nexthdr;
	w->at += len;
	return true;
}

static bool sim_walk_next(struct sim_walk *w)
{
	switch (w->proto) {
	case IPPROTO_IPIP:
		return sim_walk_ipv4(w);
	case IPPROTO_IPV6:
		return sim_walk_ipv6(w);
	case NEXTHDR_FRAGMENT:
		return sim_walk_frag6(w);
	case NEXTHDR_HOP:
	case NEXTHDR_ROUTING:
	case NEXTHDR_DEST:
	case NEXTHDR_AUTH:
	case NEXTHDR_MOBILITY:
	case 139:		/* HIP, RFC 7401 */
	case 140:		/* shim6, RFC 5533 */
		return sim_walk_option(w);
	}
	return false;
}

/* The IP protocol number that stands for the EtherType, 0 if it is not IP. */
static u8 sim_walk_start(struct sim_walk *w, const struct sk_buff *skb)
{
	const struct vlan_ethhdr *eth = (void *)skb->data;
	__be16 proto;

	if (skb->len < sizeof(*eth))
		return 0;
	w->at = skb->data + ETH_HLEN;
	w->end = skb->data + skb->len;
	proto = eth->h_vlan_proto;
	if (eth_type_vlan(proto)) {
		w->at = skb->data + sizeof(*eth);
		proto = eth->h_vlan_encapsulated_proto;
	}
	if (proto == htons(ETH_P_IP))
		return IPPROTO_IPIP;
	return proto == htons(ETH_P_IPV6) ? IPPROTO_IPV6 : 0;
}

/* h: 8 bytes of VXLAN header, if it is one */
static bool sim_vxlan_flags(const u8 *h)
{
	bool plain = h[0] == 0x08 && !h[1] && !h[2] && !h[3];
	bool gbp = h[0] == 0x88 && !(h[1] & ~0x48);
	bool gpe = (h[0] & ~0x03) == 0x0c && !h[1] && !h[2];

	return (plain || gbp || gpe) && !h[7];
}

static bool sim_ike_port(__be16 port)
{
	return port == htons(500) || port == htons(4500);
}

static bool sim_walk_udp(struct sim_walk *w)
{
	const struct udphdr *uh = sim_walk_need(w, 4);	/* the ports */
	const u8 *vxlan;

	if (!uh)
		return false;
	if (uh->dest == htons(SIM_VXLAN_PORT))
		return true;
	if (sim_ike_port(uh->source) || sim_ike_port(uh->dest))
		return false;
	w->at += min_t(size_t, sizeof(*uh), w->end - w->at);
	vxlan = sim_walk_need(w, 8 + ETH_HLEN);
	return vxlan && sim_vxlan_flags(vxlan);
}

static bool sim_frag_equal(const struct sim_frag_id *a,
			   const struct sim_frag_id *b)
{
	return a->id == b->id && a->proto == b->proto &&
	       ipv6_addr_equal(&a->saddr, &b->saddr) &&
	       ipv6_addr_equal(&a->daddr, &b->daddr);
}

static void sim_frag_add(struct sim_frags *frags, const struct sim_frag_id *id)
{
	struct sim_frag_id *slot;

	spin_lock_bh(&frags->lock);
	slot = &frags->id[frags->next++ % SIM_FRAGS];
	*slot = *id;
	slot->seen = jiffies ?: 1;
	spin_unlock_bh(&frags->lock);
}

static bool sim_frag_known(struct sim_frags *frags,
			   const struct sim_frag_id *id)
{
	bool known = false;
	int i;

	spin_lock_bh(&frags->lock);
	for (i = 0; i < SIM_FRAGS && !known; i++)
		known = frags->id[i].seen &&
			time_before(jiffies, frags->id[i].seen + SIM_FRAG_TIME) &&
			sim_frag_equal(&frags->id[i], id);
	spin_unlock_bh(&frags->lock);
	return known;
}

bool sim_is_clear_vxlan(struct sim_frags *frags, const struct sk_buff *skb)
{
	struct sim_walk w = {};
	int i;

	w.proto = sim_walk_start(&w, skb);
	if (!w.proto)
		return false;
	for (i = 0; w.proto != IPPROTO_UDP && i <= SIM_HEADERS; i++) {
		if (!sim_walk_next(&w))
			return false;
		if (w.fragment && !w.first)
			return sim_frag_known(frags, &w.id);
	}
	if (w.proto != IPPROTO_UDP || !sim_walk_udp(&w))
		return false;
	if (w.fragment)
		sim_frag_add(frags, &w.id);
	return true;
}
