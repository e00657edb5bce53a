// SPDX-License-Identifier: GPL-2.0
/*
 * The switch: offloaded rules carried out on frames from a VF and from the
 * wire, past the host stack. Rules held by the PF itself are only counted;
 * their frames go to the stack, which has the same rules in software.
 */
#include <linux/udp.h>
#include "flow.h"

/* ETH_ADDRS wants an skb: filled in by hand. */
static const struct flow_dissector_key sim_dissector_keys[] = {
	{ FLOW_DISSECTOR_KEY_CONTROL, offsetof(struct sim_key, control) },
	{ FLOW_DISSECTOR_KEY_BASIC, offsetof(struct sim_key, basic) },
	{ FLOW_DISSECTOR_KEY_IPV4_ADDRS, offsetof(struct sim_key, v4) },
	{ FLOW_DISSECTOR_KEY_IPV6_ADDRS, offsetof(struct sim_key, v6) },
	{ FLOW_DISSECTOR_KEY_PORTS, offsetof(struct sim_key, ports) },
	{ FLOW_DISSECTOR_KEY_IP, offsetof(struct sim_key, ip) },
	{ FLOW_DISSECTOR_KEY_TCP, offsetof(struct sim_key, tcp) },
	{ FLOW_DISSECTOR_KEY_ICMP, offsetof(struct sim_key, icmp) },
};
static struct flow_dissector sim_dissector;

void sim_forward_init(void)
{
	skb_flow_dissector_init(&sim_dissector, sim_dissector_keys,
				ARRAY_SIZE(sim_dissector_keys));
}

static void sim_dissect(struct sim_pf *pf, const u8 *frame, int len,
			struct sim_key *k)
{
	const struct ethhdr *eth = (void *)frame;

	__skb_flow_dissect(dev_net(pf->dev), NULL, &sim_dissector, k, frame,
			   eth->h_proto, ETH_HLEN, len, 0);
	ether_addr_copy(k->eth.dst, eth->h_dest);
	ether_addr_copy(k->eth.src, eth->h_source);
}

static bool sim_matches(const struct sim_flow *f, const struct sim_key *k)
{
	const struct sim_match *m;
	int i;

	for (m = f->match; m < f->match + f->num_matches; m++)
		for (i = 0; i < m->len; i++)
			if ((((u8 *)k)[m->off + i] ^ m->key[i]) & m->mask[i])
				return false;
	return true;
}

/* Under RCU. port: the UDP port of the tunnel, 0 for a frame from a VF. */
static struct sim_flow *sim_lookup(const struct sim_fdb *fdb,
				   const struct sim_key *k, __be16 port)
{
	struct sim_prio *p;
	struct sim_flow *f;

	list_for_each_entry_rcu(p, &fdb->prios, node)
		list_for_each_entry_rcu(f, &p->flows, node)
			if (f->port == port && sim_matches(f, k))
				return f;
	return NULL;
}

/* Consumes skb unless it returns false. */
static bool sim_output(struct sim_pf *pf, const struct sim_flow *f,
		       const struct sim_act *a, const struct sim_act *encap,
		       struct sk_buff *skb)
{
	struct sim_rep *rep;

	if (a->type == ACT_TUNNEL)
		return sim_vxlan_send(pf, skb, &encap->key, encap->v6,
				      READ_ONCE(f->ipsec));
	sim_count(pf, f->holder == HOLDER_TUNNEL ? CNT_FDB_DECAP :
						   CNT_FDB_LOCAL);
	if (a->type == ACT_UPLINK) {
		sim_wire_tx(pf, skb, false);
		return true;
	}
	rep = READ_ONCE(a->rep);
	if (rep)
		sim_rep_deliver(rep, skb);
	else
		kfree_skb(skb);
	return true;
}

/* A copy for an output that is not the last; a failed one is no output. */
static bool sim_mirror(struct sim_pf *pf, const struct sim_flow *f,
		       const struct sim_act *a, const struct sim_act *encap,
		       struct sk_buff *skb)
{
	struct sk_buff *copy = skb_copy(skb, GFP_ATOMIC);

	if (!copy)
		return false;
	if (sim_output(pf, f, a, encap, copy))
		return true;
	kfree_skb(copy);
	return false;
}

/* False: nothing was done, and skb is still the caller's. */
static bool sim_actions(struct sim_pf *pf, const struct sim_flow *f,
			struct sk_buff *skb)
{
	const struct sim_act *last = &f->act[f->num_actions - 1];
	const struct sim_act *a, *encap = NULL;
	bool done = false;

	for (a = f->act; a <= last; a++) {
		if (a->type == ACT_ENCAP) {
			encap = a;
		} else if (a->type == ACT_DROP) {
			break;
		} else if (a->type != ACT_DECAP && a->mirror && a < last) {
			done |= sim_mirror(pf, f, a, encap, skb);
		} else if (a->type != ACT_DECAP) {
			if (sim_output(pf, f, a, encap, skb))
				return true;
			if (!done)
				return false;
			break;
		}
	}
	kfree_skb(skb);
	return true;
}

static bool sim_run(struct sim_pf *pf, struct sim_flow *f,
		    struct sk_buff *skb)
{
	unsigned int len = skb->len;

	if (!sim_actions(pf, f, skb))
		return false;
	atomic64_inc(&f->pkts);
	atomic64_add(len, &f->bytes);
	WRITE_ONCE(f->used, jiffies);
	return true;
}

static bool sim_forwards(const struct sim_pf *pf, const struct sim_fdb *fdb)
{
	return !list_empty(&fdb->prios) && !READ_ONCE(pf->knobs.no_fdb) &&
	       !READ_ONCE(pf->dying);
}

/* A linear frame from the VF. True: done with. */
bool sim_forward_vf(struct sim_rep *rep, struct sk_buff *skb)
{
	struct sim_pf *pf = rep->pf;
	struct sim_flow *f;
	struct sim_key k = {};
	bool done;

	if (!sim_forwards(pf, &rep->fdb) || skb_vlan_tag_present(skb) ||
	    skb->len < ETH_HLEN)
		return false;
	sim_dissect(pf, skb->data, skb->len, &k);
	rcu_read_lock();
	f = sim_lookup(&rep->fdb, &k, 0);
	done = f && sim_run(pf, f, skb);
	rcu_read_unlock();
	return done;
}

static void sim_key_outer(struct sim_key *k, const struct sk_buff *skb,
			  const struct sim_tuple *t)
{
	const u8 *ip = skb->data + t->l3;
	const __be32 *vxlan = (void *)(skb->data + t->l4 +
				       sizeof(struct udphdr));

	if (t->family == AF_INET) {
		k->enc_v4.src = t->saddr.a4;
		k->enc_v4.dst = t->daddr.a4;
		k->enc_ip.tos = ((struct iphdr *)ip)->tos;
		k->enc_ip.ttl = ((struct iphdr *)ip)->ttl;
	} else {
		k->enc_v6.src = t->saddr.in6;
		k->enc_v6.dst = t->daddr.in6;
		k->enc_ip.tos = ipv6_get_dsfield((struct ipv6hdr *)ip);
		k->enc_ip.ttl = ((struct ipv6hdr *)ip)->hop_limit;
	}
	k->enc_ports.src = t->sport;
	k->enc_ports.dst = t->dport;
	k->enc_keyid.keyid = htonl(ntohl(vxlan[1]) >> 8);
}

static bool sim_decap(struct sim_pf *pf, struct sk_buff *skb,
		      const struct sim_tuple *t)
{
	unsigned int inner = t->l4 + sizeof(struct udphdr) + 8;
	struct sim_key k = {};
	struct sim_flow *f;
	bool done;

	if (t->end < inner + ETH_HLEN)
		return false;
	sim_key_outer(&k, skb, t);
	sim_dissect(pf, skb->data + inner, t->end - inner, &k);
	rcu_read_lock();
	f = sim_lookup(&pf->tunnel_fdb, &k, t->dport);
	skb_trim(skb, t->end);		/* no padding */
	if (f)
		skb_pull(skb, inner);
	done = f && sim_run(pf, f, skb);
	if (f && !done)
		skb_push(skb, inner);
	rcu_read_unlock();
	return done;
}

/* A linear frame from the wire, decrypted if it had to be. True: done with. */
bool sim_forward_wire(struct sim_pf *pf, struct sk_buff *skb)
{
	struct sim_tuple t;

	if (!sim_forwards(pf, &pf->tunnel_fdb) || !sim_parse(skb, &t) ||
	    t.proto != IPPROTO_UDP || t.l3 != ETH_HLEN)
		return false;
	return sim_decap(pf, skb, &t);
}
