// SPDX-License-Identifier: GPL-2.0
/*
 * Route and neighbour for a header that the device writes. flowi's protocol
 * stays 0: with one, the lookup would ask the host's xfrm policies too.
 */
#include <net/addrconf.h>
#include <net/ip6_route.h>
#include <net/neighbour.h>
#include <net/route.h>
#include "simnic.h"

static struct dst_entry *sim_route4(struct net *net, xfrm_address_t *saddr,
				    const xfrm_address_t *daddr)
{
	struct flowi4 fl = { .daddr = daddr->a4, .saddr = saddr->a4 };
	struct rtable *rt = ip_route_output_key(net, &fl);

	if (IS_ERR(rt))
		return ERR_CAST(rt);
	saddr->a4 = fl.saddr;
	return &rt->dst;
}

static struct dst_entry *sim_route6(struct net *net, xfrm_address_t *saddr,
				    const xfrm_address_t *daddr)
{
	struct flowi6 fl = { .daddr = daddr->in6, .saddr = saddr->in6 };
	struct dst_entry *dst;

	dst = ipv6_stub->ipv6_dst_lookup_flow(net, NULL, &fl, NULL);
	if (!IS_ERR(dst))
		saddr->in6 = fl.saddr;
	return dst;
}

static int sim_neighbour(struct sim_pf *pf, struct dst_entry *dst,
			 const xfrm_address_t *daddr, u8 *dmac, bool probe)
{
	struct neighbour *n;
	int err = -EAGAIN;

	if (dst->dev != pf->dev)
		return -ENETUNREACH;
	n = dst_neigh_lookup(dst, daddr);
	if (!n)
		return -ENETUNREACH;
	if (probe)
		neigh_event_send(n, NULL);
	if (READ_ONCE(n->nud_state) & NUD_VALID) {
		neigh_ha_snapshot(dmac, n, pf->dev);
		err = 0;
	}
	neigh_release(n);
	return err;
}

/*
 * Fills in the source address and, if *ttl is 0, the hop limit. probe asks
 * for the neighbour, which may transmit at once through this very device:
 * not to be called under txlock then. -EAGAIN: not known yet.
 */
int sim_resolve(struct sim_pf *pf, int family, xfrm_address_t *saddr,
		const xfrm_address_t *daddr, u8 *dmac, int *ttl, bool probe)
{
	struct net *net = dev_net(pf->dev);
	struct dst_entry *dst;
	int err;

	dst = family == AF_INET ? sim_route4(net, saddr, daddr) :
				  sim_route6(net, saddr, daddr);
	if (IS_ERR(dst))
		return PTR_ERR(dst);
	if (!*ttl)
		*ttl = family == AF_INET ? ip4_dst_hoplimit(dst) :
					   ip6_dst_hoplimit(dst);
	err = sim_neighbour(pf, dst, daddr, dmac, probe);
	dst_release(dst);
	return err;
}
