// SPDX-License-Identifier: GPL-2.0
/*
 * Security associations. Lifetime: the core calls delete (under x->lock, BH
 * off) and later, from its GC work, free. A state that UPDSA throws away may
 * be freed without delete. So the xfrm_state is dropped in delete, the table
 * reference in free, and whoever wants the xfrm_state takes it only if its
 * count is not 0 yet.
 */
#include <crypto/aead.h>
#include <linux/jhash.h>
#include "simnic.h"

static struct hlist_head *sim_sa_bucket(struct sim_pf *pf, enum sim_dir dir,
					u32 key)
{
	return &pf->sa[dir][jhash_1word(key, dir) & (SIM_HASH - 1)];
}

static u32 sim_sa_key(const struct sim_sa *sa)
{
	return sa->dir == SIM_TX ? sa->reqid : ntohl(sa->spi);
}

void sim_sa_put(struct sim_sa *sa)
{
	if (!refcount_dec_and_test(&sa->ref))
		return;
	if (sa->aead)
		crypto_free_aead(sa->aead);
	kfree(sa);
}

/* Caller holds pf->lock; NULL if the core has let the state go. */
struct xfrm_state *sim_sa_hold_state(struct sim_sa *sa)
{
	if (sa->x && refcount_inc_not_zero(&sa->x->refcnt))
		return sa->x;
	return NULL;
}

/*
 * mlx5: tx_add_rule() matches the reqid that the policy left in a register,
 * and the upper protocol, nothing else. Two SAs of one reqid are two equal
 * rules; which one wins is not specified (here: the newest). Caller holds
 * pf->lock and gets a reference.
 */
struct sim_sa *sim_sa_find_tx(struct sim_pf *pf, u32 reqid,
			      const struct sim_tuple *t)
{
	struct sim_sa *sa;

	hlist_for_each_entry(sa, sim_sa_bucket(pf, SIM_TX, reqid), node)
		if (sa->reqid == reqid && sim_upspec_match(&sa->up, t)) {
			refcount_inc(&sa->ref);
			return sa;
		}
	return NULL;
}

/*
 * mlx5: rx_add_rule() matches addresses and SPI. Before 6.15 a protocol in
 * the state's selector overwrites the ESP match, and the rule never hits.
 */
static bool sim_sa_rx_match(const struct sim_sa *sa, __be32 spi,
			    const struct sim_tuple *t)
{
	if (sa->spi != spi || sa->family != t->family ||
	    !sim_addr_equal(&sa->daddr, &t->daddr, t->family))
		return false;
	if (!xfrm_addr_any(&sa->saddr, t->family) &&
	    !sim_addr_equal(&sa->saddr, &t->saddr, t->family))
		return false;
	return !sa->up.proto || READ_ONCE(sa->pf->knobs.after_decrypt);
}

/* Caller holds pf->lock and gets a reference. */
struct sim_sa *sim_sa_find_rx(struct sim_pf *pf, __be32 spi,
			      const struct sim_tuple *t)
{
	struct sim_sa *sa;

	hlist_for_each_entry(sa, sim_sa_bucket(pf, SIM_RX, ntohl(spi)), node)
		if (sim_sa_rx_match(sa, spi, t)) {
			refcount_inc(&sa->ref);
			return sa;
		}
	return NULL;
}

static bool sim_has_limits(const struct xfrm_lifetime_cfg *lft)
{
	return lft->soft_packet_limit != XFRM_INF ||
	       lft->hard_packet_limit != XFRM_INF ||
	       lft->soft_byte_limit != XFRM_INF ||
	       lft->hard_byte_limit != XFRM_INF;
}

/* mlx5: mlx5e_ipsec_packet_setup(): without ESN nobody checks replays */
static void sim_sa_set_seq(struct sim_sa *sa, const struct xfrm_state *x)
{
	const struct xfrm_replay_state_esn *esn = x->replay_esn;

	sa->esn = x->props.flags & XFRM_STATE_ESN;
	if (!sa->esn)
		return;		/* RFC 4303 3.3.3: the first packet has 1 */
	if (sa->dir == SIM_TX) {
		sa->seq = (u64)esn->oseq_hi << 32 | esn->oseq;
		return;
	}
	sa->seq = (u64)esn->seq_hi << 32 | esn->seq;
	sa->window = esn->replay_window;
}

static void sim_sa_set(struct sim_sa *sa, const struct xfrm_state *x)
{
	sa->family = x->props.family;
	sa->mode = x->props.mode;
	sa->saddr = x->props.saddr;
	sa->daddr = x->id.daddr;
	sa->spi = x->id.spi;
	sa->reqid = x->props.reqid;
	sa->limits = sim_has_limits(&x->lft);
	sa->up = (struct sim_upspec){
		.proto = x->sel.proto,
		.sport = x->sel.sport, .sport_mask = x->sel.sport_mask,
		.dport = x->sel.dport, .dport_mask = x->sel.dport_mask,
	};
	sim_sa_set_seq(sa, x);
}

/* A synchronous cipher only: it runs under the TX lock and in softirq. */
static int sim_sa_set_key(struct sim_sa *sa, const struct xfrm_state *x)
{
	struct crypto_aead *aead;
	int err;

	aead = crypto_alloc_aead("rfc4106(gcm(aes))", 0, CRYPTO_ALG_ASYNC);
	if (IS_ERR(aead))
		return PTR_ERR(aead);
	err = crypto_aead_setkey(aead, x->aead->alg_key,
				 x->aead->alg_key_len / 8);
	if (!err)
		err = crypto_aead_setauthsize(aead, 16);
	if (err) {
		crypto_free_aead(aead);
		return err;
	}
	sa->aead = aead;
	return 0;
}

/* The 11 bits of mlx5_esw_ipsec_rx_setup_modify_header(): switchdev only */
static bool sim_rx_ids_full(const struct sim_sa *sa)
{
	u32 max = READ_ONCE(sa->pf->knobs.max_rx_sa);

	return sa->dir == SIM_RX && max && sim_switchdev(sa->pf) &&
	       sa->pf->num_sa[SIM_RX] >= max;
}

/*
 * The tail of mlx5e_xfrm_add_state() once the table is there. Tunnel mode is
 * judged by what the switch did when the table was made, not by what it does
 * now.
 */
static int sim_sa_admit(struct sim_sa *sa, const char **why)
{
	if (sim_rx_ids_full(sa)) {
		*why = "no free RX SA id";
		return -EBUSY;
	}
	if (sa->mode == XFRM_MODE_TUNNEL && !sa->tbl->allow_tunnel) {
		*why = SIM_MSG("Packet offload tunnel mode is disabled due to encap settings");
		return -EINVAL;
	}
	return 0;
}

/* mlx5e_accel_ipsec_fs_add_rule() */
static int sim_sa_take_table(struct sim_sa *sa, const char **why)
{
	struct sim_pf *pf = sa->pf;
	int err;

	err = sim_block_tc(pf, why);
	if (err)
		return err;
	sa->tbl = sim_table_get(pf, sa->dir, sa->family);
	if (IS_ERR(sa->tbl)) {
		err = PTR_ERR(sa->tbl);
		*why = sim_busy_reason(err);
		goto unblock;
	}
	err = sim_sa_admit(sa, why);
	if (!err)
		return 0;
	sim_table_put(pf, sa->tbl);
unblock:
	sim_unblock_tc(pf);
	return err;
}

/* Linux 6.18: every SA asks for the eswitch, tables or not. */
static int sim_sa_strict(struct sim_sa *sa, const char **why)
{
	int err;

	if (!READ_ONCE(sa->pf->knobs.strict_sa))
		return 0;
	err = sim_esw_try_lock(sa->pf);
	if (err) {
		*why = sim_busy_reason(err);
		return err;
	}
	sa->strict = true;
	sa->pf->num_block_mode++;
	return 0;
}

static void sim_sa_release_mode(struct sim_sa *sa)
{
	if (sa->strict)
		sa->pf->num_block_mode--;
}

/* Caller holds pf->lock. */
static int sim_sa_claim(struct sim_sa *sa, const char **why)
{
	struct sim_pf *pf = sa->pf;
	int err;

	err = sim_object_get(pf, why);
	if (err)
		return err;
	err = sim_sa_strict(sa, why);
	if (err)
		goto object;
	err = sim_sa_take_table(sa, why);
	if (err)
		goto mode;
	return 0;
mode:
	sim_sa_release_mode(sa);
object:
	sim_object_put(pf);
	return err;
}

static int sim_sa_insert(struct sim_sa *sa, const char **why)
{
	struct sim_pf *pf = sa->pf;
	int err;

	spin_lock_bh(&pf->lock);
	err = sim_sa_claim(sa, why);
	if (!err) {
		pf->num_sa[sa->dir]++;
		hlist_add_head(&sa->node,
			       sim_sa_bucket(pf, sa->dir, sim_sa_key(sa)));
		list_add(&sa->all, &pf->sa_all);
	}
	spin_unlock_bh(&pf->lock);
	return err;
}

static void sim_sa_remove(struct sim_sa *sa)
{
	struct sim_pf *pf = sa->pf;

	spin_lock_bh(&pf->lock);
	sa->x = NULL;
	hlist_del(&sa->node);
	list_del(&sa->all);
	pf->num_sa[sa->dir]--;
	sim_table_put(pf, sa->tbl);
	sim_unblock_tc(pf);
	sim_sa_release_mode(sa);
	sim_object_put(pf);
	spin_unlock_bh(&pf->lock);
}

static struct sim_sa *sim_sa_alloc(struct xfrm_state *x, gfp_t gfp)
{
	struct sim_sa *sa = kzalloc(sizeof(*sa), gfp);

	if (!sa)
		return NULL;
	refcount_set(&sa->ref, 1);
	spin_lock_init(&sa->lock);
	sa->pf = netdev_priv(x->xso.dev);
	sa->dir = x->xso.dir == XFRM_DEV_OFFLOAD_IN ? SIM_RX : SIM_TX;
	sa->x = x;
	return sa;
}

static int sim_sa_offload(struct sim_sa *sa, struct xfrm_state *x,
			  const char **why)
{
	int err;

	*why = sim_state_fault(sa->pf, x);
	if (*why)
		return -EINVAL;
	sim_sa_set(sa, x);
	err = sim_sa_set_key(sa, x);
	if (err) {
		*why = "no cipher";
		return err;
	}
	return sim_sa_insert(sa, why);
}

/*
 * The larval state of an acquire comes in atomic context and leads to nothing
 * in the device; it has a handle all the same.
 */
static int sim_state_add(struct xfrm_state *x, struct netlink_ext_ack *extack)
{
	bool larval = x->xso.flags & XFRM_DEV_OFFLOAD_FLAG_ACQ;
	const char *why = NULL;
	struct sim_sa *sa;
	int err;

	sa = sim_sa_alloc(x, larval ? GFP_ATOMIC : GFP_KERNEL);
	if (!sa)
		return -ENOMEM;
	err = larval ? 0 : sim_sa_offload(sa, x, &why);
	if (err) {
		sim_log_refusal(sa->pf, EV_NO_STATE, "state add", err, why);
		sim_sa_put(sa);
		sim_tell(extack, why,
			 SIM_MSG("Device failed to offload this state"));
		return err;
	}
	x->xso.offload_handle = (unsigned long)sa;
	sim_sa_probe(sa);
	return 0;
}

static void sim_state_delete(struct xfrm_state *x)
{
	struct sim_sa *sa = (void *)x->xso.offload_handle;

	spin_lock_bh(&sa->pf->lock);
	sa->x = NULL;
	spin_unlock_bh(&sa->pf->lock);
}

static void sim_state_free(struct xfrm_state *x)
{
	struct sim_sa *sa = (void *)x->xso.offload_handle;

	if (sa->aead)		/* not larval */
		sim_sa_remove(sa);
	sim_sa_put(sa);
}

/* mlx5e_ipsec_offload_ok() */
static bool sim_offload_ok(struct sk_buff *skb, struct xfrm_state *x)
{
	if (x->props.family == AF_INET)
		return ip_hdr(skb)->ihl == 5;
	return !ipv6_ext_hdr(ipv6_hdr(skb)->nexthdr);
}

/* The device counts 64 bits by itself. */
static void sim_advance_esn(struct xfrm_state *x)
{
}

static u64 sim_news(atomic64_t *counter, u64 *told)
{
	u64 now = atomic64_read(counter), news = now - *told;

	*told = now;
	return news;
}

/* mlx5e_xfrm_update_stats() */
void sim_sa_update_stats(struct xfrm_state *x)
{
	struct sim_sa *sa = (void *)x->xso.offload_handle;
	struct net *net = dev_net(x->xso.dev);
	u64 auth, replayed;

	if (!sa || !sa->aead)
		return;
	spin_lock_bh(&sa->lock);
	x->curlft.packets += sim_news(&sa->pkts, &sa->told_pkts);
	x->curlft.bytes += sim_news(&sa->bytes, &sa->told_bytes);
	auth = sim_news(&sa->auth_fail, &sa->told_auth);
	replayed = sim_news(&sa->replayed, &sa->told_replayed);
	spin_unlock_bh(&sa->lock);
	x->stats.integrity_failed += auth;
	x->stats.replay += replayed;
	XFRM_ADD_STATS(net, LINUX_MIB_XFRMINSTATEPROTOERROR, auth);
	XFRM_ADD_STATS(net, LINUX_MIB_XFRMINSTATESEQERROR, replayed);
}

/* Linux 6.12; from 6.16 the state operations get the net_device first. */
const struct xfrmdev_ops sim_xfrmdev_ops = {
	.xdo_dev_state_add = sim_state_add,
	.xdo_dev_state_delete = sim_state_delete,
	.xdo_dev_state_free = sim_state_free,
	.xdo_dev_offload_ok = sim_offload_ok,
	.xdo_dev_state_advance_esn = sim_advance_esn,
	.xdo_dev_state_update_stats = sim_sa_update_stats,
	.xdo_dev_policy_add = sim_policy_add,
	.xdo_dev_policy_delete = sim_policy_delete,
	.xdo_dev_policy_free = sim_policy_free,
};
