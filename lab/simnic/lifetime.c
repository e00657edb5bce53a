// SPDX-License-Identifier: GPL-2.0
/*
 * What the device does once per second (mlx5: mlx5e_ipsec_handle_sw_limits()):
 * packet and byte limits, and the neighbours of tunnel-mode peers, whose
 * Ethernet header the device writes by itself.
 */
#include "simnic.h"

/* Takes a batch of references at most: memory is asked for without the lock. */
static unsigned int sim_limited(struct sim_pf *pf, struct xfrm_state **v,
				unsigned int max)
{
	struct sim_sa *sa;
	unsigned int n = 0;

	spin_lock_bh(&pf->lock);
	list_for_each_entry(sa, &pf->sa_all, all) {
		if (n == max)
			break;
		if (sa->limits)
			v[n] = sim_sa_hold_state(sa);
		if (sa->limits && v[n])
			n++;
	}
	spin_unlock_bh(&pf->lock);
	return n;
}

/*
 * Once the hard limit is reached the rule of the SA drops, until the core has
 * deleted the state. The handle is valid here: the core frees it only after
 * it has taken x->lock to leave XFRM_STATE_VALID.
 */
static void sim_check_limit(struct xfrm_state *x)
{
	struct sim_sa *sa;

	spin_lock_bh(&x->lock);
	if (x->km.state == XFRM_STATE_VALID) {
		sa = (void *)x->xso.offload_handle;
		sim_sa_update_stats(x);
		xfrm_state_check_expire(x);
		if (x->km.state == XFRM_STATE_EXPIRED)
			WRITE_ONCE(sa->drop, true);
	}
	spin_unlock_bh(&x->lock);
}

static void sim_check_limits(struct sim_pf *pf)
{
	unsigned int i, n, max;
	struct xfrm_state **v;

	max = READ_ONCE(pf->num_sa[SIM_RX]) + READ_ONCE(pf->num_sa[SIM_TX]);
	if (!max)
		return;
	v = kvmalloc_array(max, sizeof(*v), GFP_KERNEL);
	if (!v)
		return;		/* again in a second */
	n = sim_limited(pf, v, max);
	for (i = 0; i < n; i++) {
		sim_check_limit(v[i]);
		xfrm_state_put(v[i]);
	}
	kvfree(v);
}

/* Sends at once if it must: never under txlock. */
void sim_sa_probe(struct sim_sa *sa)
{
	xfrm_address_t src = sa->saddr;
	u8 dmac[ETH_ALEN];
	int ttl = 64;

	if (sa->aead && sa->dir == SIM_TX && sa->mode == XFRM_MODE_TUNNEL)
		sim_resolve(sa->pf, sa->family, &src, &sa->daddr, dmac, &ttl,
			    true);
}

#define SIM_PROBES 64

/* Turns the list of SAs on, so that with more tunnels each has its turn. */
static unsigned int sim_tunnels(struct sim_pf *pf, struct sim_sa **v)
{
	unsigned int n = 0, left;
	struct sim_sa *sa;

	spin_lock_bh(&pf->lock);
	left = pf->num_sa[SIM_RX] + pf->num_sa[SIM_TX];
	while (left-- && n < SIM_PROBES) {
		sa = list_first_entry(&pf->sa_all, struct sim_sa, all);
		list_move_tail(&sa->all, &pf->sa_all);
		if (sa->dir != SIM_TX || sa->mode != XFRM_MODE_TUNNEL)
			continue;
		refcount_inc(&sa->ref);
		v[n++] = sa;
	}
	spin_unlock_bh(&pf->lock);
	return n;
}

static void sim_probe_tunnels(struct sim_pf *pf)
{
	struct sim_sa *v[SIM_PROBES];
	unsigned int n = sim_tunnels(pf, v);

	while (n--) {
		sim_sa_probe(v[n]);
		sim_sa_put(v[n]);
	}
}

void sim_lifetime_work(struct work_struct *work)
{
	struct sim_pf *pf = container_of(work, struct sim_pf, lifetime.work);

	sim_check_limits(pf);
	sim_probe_tunnels(pf);
	schedule_delayed_work(&pf->lifetime, HZ);
}
