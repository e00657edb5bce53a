// SPDX-License-Identifier: GPL-2.0
/*
 * The steering parser: what policies and SAs of the device can match. mlx5's
 * IPsec rules match unfragmented packets only (setup_fte_no_frags()); packets
 * with IPv4 options or IPv6 extension headers are not known to match on a
 * card, so here they do not: the worse case for who relies on it.
 */
#include <linux/if_vlan.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include "simnic.h"

static bool sim_parse_ipv4(const struct sk_buff *skb, struct sim_tuple *t)
{
	const struct iphdr *ip = (void *)(skb->data + t->l3);

	if (skb->len < t->l3 + sizeof(*ip) || ip->version != 4 ||
	    ip->ihl != 5 || ip_is_fragment(ip))
		return false;
	t->family = AF_INET;
	t->proto = ip->protocol;
	t->saddr.a4 = ip->saddr;
	t->daddr.a4 = ip->daddr;
	t->l4 = t->l3 + sizeof(*ip);
	t->end = t->l3 + ntohs(ip->tot_len);
	return true;
}

static bool sim_parse_ipv6(const struct sk_buff *skb, struct sim_tuple *t)
{
	const struct ipv6hdr *ip = (void *)(skb->data + t->l3);

	if (skb->len < t->l3 + sizeof(*ip) || ip->version != 6)
		return false;
	t->family = AF_INET6;
	t->proto = ip->nexthdr;
	t->saddr.in6 = ip->saddr;
	t->daddr.in6 = ip->daddr;
	t->l4 = t->l3 + sizeof(*ip);
	t->end = t->l4 + ntohs(ip->payload_len);
	return true;
}

static bool sim_parse_ip(const struct sk_buff *skb, struct sim_tuple *t)
{
	const struct vlan_ethhdr *eth = (void *)skb->data;
	__be16 proto;

	if (skb->len < sizeof(*eth))
		return false;
	t->l3 = ETH_HLEN;
	proto = eth->h_vlan_proto;
	if (proto == htons(ETH_P_8021Q)) {
		t->l3 = sizeof(*eth);
		proto = eth->h_vlan_encapsulated_proto;
	}
	if (proto == htons(ETH_P_IP))
		return sim_parse_ipv4(skb, t);
	return proto == htons(ETH_P_IPV6) && sim_parse_ipv6(skb, t);
}

bool sim_parse(const struct sk_buff *skb, struct sim_tuple *t)
{
	const struct udphdr *uh;

	memset(t, 0, sizeof(*t));
	if (!sim_parse_ip(skb, t))
		return false;
	if (t->end > skb->len || t->end < t->l4)
		return false;
	if ((t->proto == IPPROTO_UDP || t->proto == IPPROTO_TCP) &&
	    t->end >= t->l4 + sizeof(*uh)) {
		uh = (void *)(skb->data + t->l4);	/* ports are first in both */
		t->sport = uh->source;
		t->dport = uh->dest;
	}
	return true;
}

/* mlx5: setup_fte_upper_proto_match(): a zero port is no match, masks hold */
bool sim_upspec_match(const struct sim_upspec *up, const struct sim_tuple *t)
{
	if (up->proto != IPPROTO_UDP && up->proto != IPPROTO_TCP)
		return true;
	if (up->proto != t->proto)
		return false;
	if (up->dport && (up->dport ^ t->dport) & up->dport_mask)
		return false;
	return !up->sport || !((up->sport ^ t->sport) & up->sport_mask);
}

bool sim_addr_equal(const xfrm_address_t *a, const xfrm_address_t *b,
		    u16 family)
{
	return family == AF_INET ? a->a4 == b->a4 :
				   ipv6_addr_equal(&a->in6, &b->in6);
}
