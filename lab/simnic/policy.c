// SPDX-License-Identifier: GPL-2.0
/*
 * IPsec policies. A device with chains tries the priorities in order; within
 * one priority the order is not specified (here: oldest first). The store is
 * a hash over the addresses for policies whose addresses are exact or any,
 * and a short list for the rest, so that 20000 peers cost no more than one.
 */
#include <linux/jhash.h>
#include "simnic.h"

struct sim_policy {
	struct hlist_node node;
	struct sim_pf *pf;
	struct sim_table *tbl;
	enum sim_dir dir;
	u64 seq;
	u32 prio;
	u32 reqid;
	bool block;
	u16 family;
	u8 splen, dplen;
	xfrm_address_t saddr, daddr;
	struct sim_upspec up;
};

/* Which addresses of a policy are exact; the hash has a class for each set. */
enum { SIM_EXACT_SRC = 1, SIM_EXACT_DST = 2, SIM_EXACT_BOTH = 3 };

static u32 sim_addr_hash(const xfrm_address_t *a, u16 family, u32 seed)
{
	return family == AF_INET ? jhash_1word((__force u32)a->a4, seed) :
				   jhash2((__force u32 *)a->a6, 4, seed);
}

static struct hlist_head *sim_policy_bucket(struct sim_pf *pf,
					    enum sim_dir dir, u16 family,
					    unsigned int exact,
					    const xfrm_address_t *saddr,
					    const xfrm_address_t *daddr)
{
	u32 hash = family << 2 | exact;

	if (exact & SIM_EXACT_SRC)
		hash = sim_addr_hash(saddr, family, hash);
	if (exact & SIM_EXACT_DST)
		hash = sim_addr_hash(daddr, family, hash);
	return &pf->policy[dir][hash & (SIM_HASH - 1)];
}

static unsigned int sim_full_length(u16 family)
{
	return family == AF_INET ? 32 : 128;
}

/* A prefix that is neither any nor a host: its meaning depends on a knob. */
static bool sim_is_prefix(const xfrm_address_t *a, u8 len, u16 family)
{
	return !xfrm_addr_any(a, family) && len != sim_full_length(family);
}

static struct hlist_head *sim_policy_list(const struct sim_policy *p)
{
	unsigned int exact = 0;

	if (!xfrm_addr_any(&p->saddr, p->family))
		exact |= SIM_EXACT_SRC;
	if (!xfrm_addr_any(&p->daddr, p->family))
		exact |= SIM_EXACT_DST;
	if (!exact || sim_is_prefix(&p->saddr, p->splen, p->family) ||
	    sim_is_prefix(&p->daddr, p->dplen, p->family))
		return &p->pf->policy_wild[p->dir];
	return sim_policy_bucket(p->pf, p->dir, p->family, exact, &p->saddr,
				 &p->daddr);
}

/*
 * setup_fte_addr4(), setup_fte_addr6(): up to 6.14 the prefix length is not
 * looked at, an address is exact or, all-zero, any.
 */
static bool sim_addr_match(const struct sim_policy *p,
			   const xfrm_address_t *rule, u8 len,
			   const xfrm_address_t *pkt)
{
	if (xfrm_addr_any(rule, p->family))
		return true;
	if (!READ_ONCE(p->pf->knobs.after_decrypt))
		return sim_addr_equal(rule, pkt, p->family);
	return p->family == AF_INET ? addr4_match(rule->a4, pkt->a4, len) :
				      addr_match(rule, pkt, len);
}

/*
 * Without any address mlx5 does not match the IP version either, so such a
 * policy holds for both families, except where the family has its own table.
 */
static bool sim_family_match(const struct sim_policy *p, u16 family)
{
	if (p->family == family)
		return true;
	return xfrm_addr_any(&p->saddr, p->family) &&
	       xfrm_addr_any(&p->daddr, p->family) &&
	       (p->dir == SIM_TX || sim_switchdev(p->pf));
}

static bool sim_policy_match(const struct sim_policy *p,
			     const struct sim_tuple *t)
{
	return sim_family_match(p, t->family) &&
	       sim_addr_match(p, &p->saddr, p->splen, &t->saddr) &&
	       sim_addr_match(p, &p->daddr, p->dplen, &t->daddr) &&
	       sim_upspec_match(&p->up, t);
}

static bool sim_policy_before(const struct sim_policy *a,
			      const struct sim_policy *b)
{
	return a->prio != b->prio ? a->prio < b->prio : a->seq < b->seq;
}

static const struct sim_policy *
sim_policy_best(const struct hlist_head *list, const struct sim_tuple *t,
		const struct sim_policy *best)
{
	const struct sim_policy *p;

	hlist_for_each_entry(p, list, node)
		if ((!best || sim_policy_before(p, best)) &&
		    sim_policy_match(p, t))
			best = p;
	return best;
}

/* Caller holds pf->lock. No match: pass, and no SA. */
struct sim_verdict sim_policy_lookup(struct sim_pf *pf, enum sim_dir dir,
				     const struct sim_tuple *t)
{
	const struct sim_policy *p;
	unsigned int exact;

	p = sim_policy_best(&pf->policy_wild[dir], t, NULL);
	for (exact = SIM_EXACT_SRC; exact <= SIM_EXACT_BOTH; exact++)
		p = sim_policy_best(sim_policy_bucket(pf, dir, t->family, exact,
						      &t->saddr, &t->daddr),
				    t, p);
	return (struct sim_verdict){
		.block = p && p->block,
		.reqid = p ? p->reqid : 0,
	};
}

static void sim_policy_set(struct sim_policy *n, const struct xfrm_policy *p)
{
	const struct xfrm_selector *sel = &p->selector;

	n->dir = p->xdo.dir == XFRM_DEV_OFFLOAD_IN ? SIM_RX : SIM_TX;
	n->prio = p->priority;
	n->reqid = p->xfrm_vec[0].reqid;	/* 0 without a template */
	n->block = p->action == XFRM_POLICY_BLOCK;
	n->family = sel->family;
	n->saddr = sel->saddr;
	n->daddr = sel->daddr;
	n->splen = sel->prefixlen_s;
	n->dplen = sel->prefixlen_d;
	n->up = (struct sim_upspec){
		.proto = sel->proto,
		.sport = sel->sport, .sport_mask = sel->sport_mask,
		.dport = sel->dport, .dport_mask = sel->dport_mask,
	};
}

/* mlx5e_accel_ipsec_fs_add_pol(); caller holds pf->lock */
static int sim_policy_take_table(struct sim_policy *n, const char **why)
{
	struct sim_pf *pf = n->pf;
	int err;

	err = sim_block_tc(pf, why);
	if (err)
		return err;
	n->tbl = sim_table_get(pf, n->dir, n->family);
	if (IS_ERR(n->tbl)) {
		err = PTR_ERR(n->tbl);
		*why = sim_busy_reason(err);
		sim_unblock_tc(pf);
		return err;
	}
	return 0;
}

static int sim_policy_insert(struct sim_policy *n, const char **why)
{
	struct sim_pf *pf = n->pf;
	int err;

	spin_lock_bh(&pf->lock);
	err = sim_object_get(pf, why);
	if (err)
		goto unlock;
	err = sim_policy_take_table(n, why);
	if (err) {
		sim_object_put(pf);
		goto unlock;
	}
	n->seq = ++pf->policy_seq;
	hlist_add_head(&n->node, sim_policy_list(n));
	pf->num_policies[n->dir]++;
unlock:
	spin_unlock_bh(&pf->lock);
	return err;
}

static int sim_policy_offload(struct sim_pf *pf, struct xfrm_policy *p,
			      const char **why)
{
	struct sim_policy *n;
	int err;

	*why = sim_policy_fault(pf, p);
	if (*why)
		return -EINVAL;
	n = kzalloc(sizeof(*n), GFP_KERNEL);
	if (!n)
		return -ENOMEM;
	n->pf = pf;
	sim_policy_set(n, p);
	err = sim_policy_insert(n, why);
	if (err) {
		kfree(n);
		return err;
	}
	p->xdo.offload_handle = (unsigned long)n;
	return 0;
}

/* mlx5e_xfrm_add_policy() */
int sim_policy_add(struct xfrm_policy *p, struct netlink_ext_ack *extack)
{
	struct sim_pf *pf = netdev_priv(p->xdo.dev);
	const char *why = NULL;
	int err;

	err = sim_policy_offload(pf, p, &why);
	if (!err)
		return 0;
	sim_log_refusal(pf, EV_NO_POLICY, "policy add", err, why);
	sim_tell(extack, why, SIM_MSG("Device failed to offload this policy"));
	return err;
}

/* mlx5e_xfrm_del_policy(): synchronous, unlike that of states */
void sim_policy_delete(struct xfrm_policy *p)
{
	struct sim_policy *n = (void *)p->xdo.offload_handle;
	struct sim_pf *pf = n->pf;

	spin_lock_bh(&pf->lock);
	hlist_del(&n->node);
	pf->num_policies[n->dir]--;
	sim_unblock_tc(pf);
	sim_table_put(pf, n->tbl);
	sim_object_put(pf);
	spin_unlock_bh(&pf->lock);
}

void sim_policy_free(struct xfrm_policy *p)
{
	kfree((void *)p->xdo.offload_handle);
}
