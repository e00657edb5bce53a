// SPDX-License-Identifier: GPL-2.0
/*
 * Where frames meet the wire, and the only places where they do: so clear
 * VXLAN is counted here, whatever let it out or in.
 */
#include <linux/if_vlan.h>
#include <net/dst.h>
#include "simnic.h"

static void sim_count_clear(struct sim_pf *pf, enum sim_dir dir)
{
	bool tx = dir == SIM_TX;
	enum sim_counter counter = tx ? CNT_TX_CLEAR_VXLAN : CNT_RX_CLEAR_VXLAN;

	if (atomic64_inc_return(&pf->cnt[counter]) == 1)
		sim_log(pf, tx ? EV_TX_CLEAR : EV_RX_CLEAR,
			"first clear VXLAN packet %s", tx ? "out" : "in");
}

static void sim_wire_send(struct sim_pf *pf, struct sk_buff *skb)
{
	if (sim_is_clear_vxlan(&pf->frags[SIM_TX], skb))
		sim_count_clear(pf, SIM_TX);
	dev_sw_netstats_tx_add(pf->dev, 1, skb->len);
	skb_dst_drop(skb);
	nf_reset_ct(skb);
	secpath_reset(skb);
	skb->dev = pf->lower;
	dev_queue_xmit(skb);
}

/*
 * Consumes skb, data at the Ethernet header. ipsec: by way of the TX tables.
 * One packet at a time from the sequence number to the wire: a port does not
 * reorder, but two CPUs would, by more than a replay window when the
 * hypervisor takes one of them away.
 */
void sim_wire_tx(struct sim_pf *pf, struct sk_buff *skb, bool ipsec)
{
	if (skb_linearize(skb)) {
		sim_count(pf, CNT_TX_ERROR);
		kfree_skb(skb);
		return;
	}
	spin_lock_bh(&pf->txlock);
	if (ipsec)
		skb = sim_ipsec_tx(pf, skb);
	if (skb)
		sim_wire_send(pf, skb);
	spin_unlock_bh(&pf->txlock);
}

/* One linear frame, its tag inside, its checksum done, data at its start. */
static struct sk_buff *sim_wire_frame(struct sk_buff *skb)
{
	skb = skb_share_check(skb, GFP_ATOMIC);
	if (!skb)
		return NULL;
	if ((skb->ip_summed == CHECKSUM_PARTIAL && skb_checksum_help(skb)) ||
	    skb_linearize(skb)) {
		kfree_skb(skb);
		return NULL;
	}
	skb_push(skb, ETH_HLEN);
	if (skb_vlan_tag_present(skb))
		skb = __vlan_hwaccel_push_inside(skb);
	return skb;
}

static void sim_wire_deliver(struct sim_pf *pf, struct sk_buff *skb)
{
	skb->protocol = eth_type_trans(skb, pf->dev);
	skb_reset_network_header(skb);
	skb_reset_transport_header(skb);
	skb_reset_mac_len(skb);
	dev_sw_netstats_rx_add(pf->dev, skb->len);
	netif_rx(skb);
}

/* What a policy drops has not come in: judged before, counted after. */
static void sim_wire_take(struct sim_pf *pf, struct sk_buff *skb)
{
	bool clear = sim_is_clear_vxlan(&pf->frags[SIM_RX], skb);

	skb = sim_ipsec_rx(pf, skb);
	if (!skb)
		return;
	if (clear)
		sim_count_clear(pf, SIM_RX);
	if (!sim_forward_wire(pf, skb))
		sim_wire_deliver(pf, skb);
}

/* The rx_handler of the lower device. */
rx_handler_result_t sim_wire_rx(struct sk_buff **pskb)
{
	struct sk_buff *skb = *pskb;
	struct sim_pf *pf = rcu_dereference(skb->dev->rx_handler_data);

	if (skb->pkt_type == PACKET_LOOPBACK)
		return RX_HANDLER_PASS;
	if (!(READ_ONCE(pf->dev->flags) & IFF_UP)) {
		kfree_skb(skb);
		return RX_HANDLER_CONSUMED;
	}
	skb = sim_wire_frame(skb);
	if (skb)
		sim_wire_take(pf, skb);
	return RX_HANDLER_CONSUMED;
}
