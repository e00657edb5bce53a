// SPDX-License-Identifier: GPL-2.0
/* The VXLAN header that an encap rule puts before a frame (RFC 7348). */
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <net/dst.h>
#include <net/ip.h>
#include <net/ip6_checksum.h>
#include <net/udp.h>
#include "simnic.h"

#define VXLAN_HEADER 8
#define VXLAN_PORT 4789

struct sim_outer {
	const struct ip_tunnel_key *key;
	bool v6;
	xfrm_address_t saddr, daddr;
	u8 dmac[ETH_ALEN];
	int ttl;
	__be16 sport;
};

static int sim_outer_resolve(struct sim_pf *pf, struct sim_outer *o)
{
	if (o->v6) {
		o->saddr.in6 = o->key->u.ipv6.src;
		o->daddr.in6 = o->key->u.ipv6.dst;
	} else {
		o->saddr.a4 = o->key->u.ipv4.src;
		o->daddr.a4 = o->key->u.ipv4.dst;
	}
	o->ttl = o->key->ttl;
	return sim_resolve(pf, o->v6 ? AF_INET6 : AF_INET, &o->saddr,
			   &o->daddr, o->dmac, &o->ttl, true);
}

static void sim_put_ipv4(const struct sim_outer *o, u8 *p, unsigned int len)
{
	struct iphdr *h = (void *)p;

	*h = (struct iphdr){
		.version = 4, .ihl = 5, .tos = o->key->tos, .ttl = o->ttl,
		.protocol = IPPROTO_UDP, .frag_off = htons(IP_DF),
		.tot_len = htons(sizeof(*h) + len),
		.saddr = o->saddr.a4, .daddr = o->daddr.a4,
	};
	ip_send_check(h);
}

static void sim_put_ipv6(const struct sim_outer *o, u8 *p, unsigned int len)
{
	struct ipv6hdr *h = (void *)p;

	ip6_flow_hdr(h, o->key->tos, o->key->label);
	h->payload_len = htons(len);
	h->nexthdr = IPPROTO_UDP;
	h->hop_limit = o->ttl;
	h->saddr = o->saddr.in6;
	h->daddr = o->daddr.in6;
}

/* len: UDP header and all that follows it */
static void sim_put_udp(const struct sim_outer *o, u8 *p, unsigned int len)
{
	struct udphdr *uh = (void *)p;
	__be32 *vxlan = (void *)(uh + 1);

	*uh = (struct udphdr){
		.source = o->sport,
		.dest = o->key->tp_dst ?: htons(VXLAN_PORT),
		.len = htons(len),
	};
	vxlan[0] = htonl(0x08000000);
	vxlan[1] = htonl(be64_to_cpu(o->key->tun_id) << 8);
	if (o->v6)	/* not optional there */
		uh->check = csum_ipv6_magic(&o->saddr.in6, &o->daddr.in6, len,
					    IPPROTO_UDP,
					    csum_partial(uh, len, 0)) ?:
			    CSUM_MANGLED_0;
}

static void sim_put_ethernet(const struct sim_outer *o, struct sk_buff *skb,
			     const u8 *smac)
{
	struct ethhdr *eth = (void *)skb->data;

	ether_addr_copy(eth->h_dest, o->dmac);
	ether_addr_copy(eth->h_source, smac);
	eth->h_proto = htons(o->v6 ? ETH_P_IPV6 : ETH_P_IP);
	skb->protocol = eth->h_proto;
}

static void sim_outer_push(struct sim_pf *pf, struct sk_buff *skb,
			   const struct sim_outer *o, unsigned int ip)
{
	unsigned int len = sizeof(struct udphdr) + VXLAN_HEADER + skb->len;
	u8 *p = skb_push(skb, ETH_HLEN + ip + sizeof(struct udphdr) +
			      VXLAN_HEADER);

	sim_put_ethernet(o, skb, pf->dev->dev_addr);
	sim_put_udp(o, p + ETH_HLEN + ip, len);
	if (o->v6)
		sim_put_ipv6(o, p + ETH_HLEN, len);
	else
		sim_put_ipv4(o, p + ETH_HLEN, len);
	skb_reset_mac_header(skb);
	skb_set_network_header(skb, ETH_HLEN);
	skb->ip_summed = CHECKSUM_NONE;
}

/*
 * False: no neighbour yet, and the frame is still the caller's; the card has
 * such a rule in the slow path (mlx5e_tc_offload_to_slow_path()). ipsec: by
 * way of the TX tables.
 */
bool sim_vxlan_send(struct sim_pf *pf, struct sk_buff *skb,
		    const struct ip_tunnel_key *key, bool v6, bool ipsec)
{
	unsigned int ip = v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	unsigned int room = ETH_HLEN + ip + sizeof(struct udphdr) +
			    VXLAN_HEADER + LL_RESERVED_SPACE(pf->lower);
	struct sim_outer o = { .key = key, .v6 = v6 };

	if (sim_outer_resolve(pf, &o)) {
		sim_count(pf, CNT_FDB_NO_NEIGH);
		return false;
	}
	o.sport = udp_flow_src_port(dev_net(pf->dev), skb, 0, 0, true);
	skb_orphan(skb);
	skb_dst_drop(skb);
	nf_reset_ct(skb);
	secpath_reset(skb);
	if (skb_cow_head(skb, room)) {
		sim_count(pf, CNT_TX_ERROR);
		kfree_skb(skb);
		return true;
	}
	sim_outer_push(pf, skb, &o, ip);
	sim_count(pf, CNT_FDB_ENCAP);
	sim_wire_tx(pf, skb, ipsec);
	return true;
}
