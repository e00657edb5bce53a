// SPDX-License-Identifier: GPL-2.0
/*
 * The way of a packet through the IPsec tables.
 *
 * TX: policy, then SA by the reqid the policy left. No policy, or no SA for
 * the reqid: the packet leaves in clear, as on the card.
 *
 * RX up to 6.14: policy on the packet as it came, then SA.
 * RX from 6.15: SA, the state's own selector, then policy; a packet that came
 * in clear meets neither.
 */
#include <linux/unaligned.h>
#include "simnic.h"

#define ESP_MIN (16 + 4 + 16)	/* header, shortest text, ICV */

static struct sk_buff *sim_blocked(struct sim_pf *pf, struct sk_buff *skb,
				   enum sim_counter counter)
{
	sim_count_frame(pf, counter, skb->len);
	kfree_skb(skb);
	return NULL;
}

static struct sk_buff *sim_expired(struct sim_pf *pf, struct sk_buff *skb,
				   enum sim_counter counter)
{
	sim_count(pf, counter);
	kfree_skb(skb);
	return NULL;
}

static struct sim_verdict sim_steer_tx(struct sim_pf *pf,
				       const struct sim_tuple *t,
				       struct sim_sa **sa)
{
	struct sim_verdict v = {};

	*sa = NULL;
	spin_lock_bh(&pf->lock);
	if (pf->tbl[SIM_TBL_TX].refs)
		v = sim_policy_lookup(pf, SIM_TX, t);
	if (!v.block && v.reqid && !READ_ONCE(pf->knobs.lose_tx_sa))
		*sa = sim_sa_find_tx(pf, v.reqid, t);
	spin_unlock_bh(&pf->lock);
	return v;
}

/* Consumes skb. NULL: consumed; otherwise the frame for the wire. */
struct sk_buff *sim_ipsec_tx(struct sim_pf *pf, struct sk_buff *skb)
{
	struct sim_verdict v;
	struct sim_tuple t;
	struct sim_sa *sa;

	if (!sim_parse(skb, &t))
		return skb;
	v = sim_steer_tx(pf, &t, &sa);
	if (v.block)
		return sim_blocked(pf, skb, CNT_TX_BLOCKED);
	if (!sa) {
		if (v.reqid)
			sim_count(pf, CNT_TX_SA_MISS);
		return skb;
	}
	if (READ_ONCE(sa->drop))
		skb = sim_expired(pf, skb, CNT_TX_ERROR);
	else
		skb = sim_esp_encrypt(sa, skb, &t);
	sim_sa_put(sa);
	return skb;
}

static struct sim_sa *sim_esp_sa(struct sim_pf *pf, const struct sk_buff *skb,
				 const struct sim_tuple *t)
{
	__be32 spi;

	if (t->proto != IPPROTO_ESP || t->end < t->l4 + ESP_MIN)
		return NULL;
	spi = get_unaligned((__be32 *)(skb->data + t->l4));
	return sim_sa_find_rx(pf, spi, t);
}

static bool sim_has_rx_table(const struct sim_pf *pf)
{
	return pf->tbl[SIM_TBL_RX].refs || pf->tbl[SIM_TBL_RX6].refs;
}

/* True: blocked. Otherwise *sa is the SA to decrypt with, if any. */
static bool sim_steer_rx(struct sim_pf *pf, const struct sk_buff *skb,
			 const struct sim_tuple *t, struct sim_sa **sa)
{
	bool block = false;

	*sa = NULL;
	spin_lock_bh(&pf->lock);
	if (sim_has_rx_table(pf)) {
		if (!READ_ONCE(pf->knobs.after_decrypt))
			block = sim_policy_lookup(pf, SIM_RX, t).block;
		if (!block)
			*sa = sim_esp_sa(pf, skb, t);
	}
	spin_unlock_bh(&pf->lock);
	return block;
}

/* 6.15: what the decrypted packet still has to pass */
static struct sk_buff *sim_after_decrypt(struct sim_sa *sa,
					 struct sk_buff *skb)
{
	struct sim_pf *pf = sa->pf;
	struct sim_tuple t;
	bool parsed = sim_parse(skb, &t), block;

	if (sa->up.proto && (!parsed || !sim_upspec_match(&sa->up, &t))) {
		sim_count(pf, CNT_RX_MISMATCH);
		kfree_skb(skb);
		return NULL;
	}
	if (!parsed)
		return skb;
	spin_lock_bh(&pf->lock);
	block = sim_policy_lookup(pf, SIM_RX, &t).block;
	spin_unlock_bh(&pf->lock);
	return block ? sim_blocked(pf, skb, CNT_RX_BLOCKED) : skb;
}

/* Tells the stack that the device has decrypted and checked the packet. */
static void sim_mark_decrypted(struct sim_sa *sa, struct sk_buff *skb)
{
	struct xfrm_offload *xo;
	struct xfrm_state *x;
	struct sec_path *sp;

	skb_ext_reset(skb);
	spin_lock_bh(&sa->pf->lock);
	x = sim_sa_hold_state(sa);
	spin_unlock_bh(&sa->pf->lock);
	if (!x) {
		sim_count(sa->pf, CNT_RX_SADB_MISS);
		return;
	}
	sp = secpath_set(skb);
	if (!sp) {
		sim_count(sa->pf, CNT_RX_SP_ALLOC);
		xfrm_state_put(x);
		return;
	}
	sp->xvec[sp->len++] = x;
	sp->olen++;
	xo = xfrm_offload(skb);
	memset(xo, 0, sizeof(*xo));
	xo->flags = CRYPTO_DONE;
	xo->status = CRYPTO_SUCCESS;
}

static struct sk_buff *sim_rx_esp(struct sim_sa *sa, struct sk_buff *skb,
				  const struct sim_tuple *t)
{
	if (READ_ONCE(sa->drop))
		return sim_expired(sa->pf, skb, CNT_RX_DROP);
	skb = sim_esp_decrypt(sa, skb, t);
	if (skb && READ_ONCE(sa->pf->knobs.after_decrypt))
		skb = sim_after_decrypt(sa, skb);
	if (skb)
		sim_mark_decrypted(sa, skb);
	return skb;
}

/* Consumes skb. NULL: consumed; otherwise the frame for the switch. */
struct sk_buff *sim_ipsec_rx(struct sim_pf *pf, struct sk_buff *skb)
{
	struct sim_tuple t;
	struct sim_sa *sa;

	if (!sim_parse(skb, &t))
		return skb;
	if (sim_steer_rx(pf, skb, &t, &sa))
		return sim_blocked(pf, skb, CNT_RX_BLOCKED);
	if (!sa) {
		if (t.proto == IPPROTO_ESP)
			sim_count(pf, CNT_RX_SA_MISS);
		return skb;
	}
	skb = sim_rx_esp(sa, skb, &t);
	sim_sa_put(sa);
	return skb;
}
