// SPDX-License-Identifier: GPL-2.0
/*
 * The PF: a netdev on top of a lower one, which is the wire. Both live in one
 * namespace, where the devlink instance lives too.
 */
#include <linux/debugfs.h>
#include <linux/idr.h>
#include <linux/slab.h>
#include "simnic.h"

static DEFINE_IDA(sim_ids);
static const struct net_device_ops sim_pf_ops;

bool sim_is_pf(const struct net_device *dev)
{
	return dev->netdev_ops == &sim_pf_ops;
}

/* The PF that has lower as its wire, or NULL. Under rtnl. */
struct sim_pf *sim_pf_above(struct net_device *lower)
{
	if (rtnl_dereference(lower->rx_handler) != sim_wire_rx)
		return NULL;
	return rtnl_dereference(lower->rx_handler_data);
}

/* xfrm_dev_direct_output() leaves the Ethernet header to the device. */
static int sim_pf_ethernet(struct sk_buff *skb, const struct net_device *dev)
{
	struct ethhdr *eth;

	if ((skb->protocol != htons(ETH_P_IP) &&
	     skb->protocol != htons(ETH_P_IPV6)) ||
	    skb_network_offset(skb) != ETH_HLEN ||
	    ((struct ethhdr *)skb->data)->h_proto == skb->protocol)
		return 0;
	if (skb_cow_head(skb, 0))
		return -ENOMEM;
	eth = (struct ethhdr *)skb->data;
	eth->h_proto = skb->protocol;
	ether_addr_copy(eth->h_source, dev->dev_addr);
	return 0;
}

/* mlx5: once there is a TX table, the PF's own frames go by it too */
static netdev_tx_t sim_pf_xmit(struct sk_buff *skb, struct net_device *dev)
{
	struct sim_pf *pf = netdev_priv(dev);

	if (sim_pf_ethernet(skb, dev)) {
		sim_count(pf, CNT_TX_ERROR);
		kfree_skb(skb);
		return NETDEV_TX_OK;
	}
	sim_wire_tx(pf, skb, true);
	return NETDEV_TX_OK;
}

static int sim_pf_open(struct net_device *dev)
{
	struct sim_pf *pf = netdev_priv(dev);

	return dev_set_promiscuity(pf->lower, 1);
}

/* The core flushes states and policies after this, without a word. */
static int sim_pf_stop(struct net_device *dev)
{
	struct sim_pf *pf = netdev_priv(dev);
	u32 states, policies;

	spin_lock_bh(&pf->lock);
	states = pf->num_sa[SIM_RX] + pf->num_sa[SIM_TX];
	policies = pf->num_policies[SIM_RX] + pf->num_policies[SIM_TX];
	spin_unlock_bh(&pf->lock);
	sim_log(pf, EV_ADMIN_DOWN,
		"admin down flushes %u states and %u policies", states,
		policies);
	dev_set_promiscuity(pf->lower, -1);
	return 0;
}

/*
 * mlx5: set_feature_hw_tc() looks at the filters of the uplink, which are
 * those of the PF and of tunnel devices; those of VF representors are not
 * seen here.
 */
static int sim_pf_set_features(struct net_device *dev, netdev_features_t f)
{
	struct sim_pf *pf = netdev_priv(dev);

	if (!(dev->features & ~f & NETIF_F_HW_TC) ||
	    !READ_ONCE(pf->num_uplink_flows))
		return 0;
	netdev_err(dev, "Active offloaded tc filters, can't turn hw_tc_offload off\n");
	sim_log_refusal(pf, EV_NO_FEATURE, "hw-tc-offload off", -EINVAL,
			"filters of the PF or of tunnels are offloaded");
	return -EINVAL;
}

static const struct net_device_ops sim_pf_ops = {
	.ndo_open = sim_pf_open,
	.ndo_stop = sim_pf_stop,
	.ndo_start_xmit = sim_pf_xmit,
	.ndo_set_features = sim_pf_set_features,
	.ndo_setup_tc = sim_setup_tc,
	.ndo_set_mac_address = eth_mac_addr,
	.ndo_validate_addr = eth_validate_addr,
};

static void sim_pf_setup(struct net_device *dev)
{
	sim_dev_setup(dev);
	dev->netdev_ops = &sim_pf_ops;
	dev->xfrmdev_ops = &sim_xfrmdev_ops;
	dev->ethtool_ops = &sim_pf_ethtool;
	sim_fix_netns(dev);
	dev->features |= NETIF_F_HW_ESP | NETIF_F_HW_TC;
	dev->hw_features |= NETIF_F_HW_TC;
	dev->hw_enc_features |= NETIF_F_HW_ESP;
}

static struct net_device *sim_pf_lower(struct net *src_net,
				       struct net_device *dev,
				       struct nlattr *tb[],
				       struct netlink_ext_ack *extack)
{
	struct net_device *lower;

	if (!tb[IFLA_LINK]) {
		NL_SET_ERR_MSG_MOD(extack, "a PF needs a lower device (link)");
		return ERR_PTR(-EINVAL);
	}
	lower = __dev_get_by_index(src_net, nla_get_u32(tb[IFLA_LINK]));
	if (!lower || dev_net(lower) != dev_net(dev) ||
	    lower->type != ARPHRD_ETHER) {
		NL_SET_ERR_MSG_MOD(extack, "lower device must be an Ethernet device of the same namespace");
		return ERR_PTR(-ENODEV);
	}
	return lower;
}

/* Zeroed memory is an empty hash table. */
static int sim_pf_alloc(struct sim_pf *pf)
{
	struct hlist_head **table[] = {
		&pf->sa[SIM_RX], &pf->sa[SIM_TX], &pf->policy[SIM_RX],
		&pf->policy[SIM_TX], &pf->flow_hash,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		*table[i] = kvcalloc(SIM_HASH, sizeof(**table[i]), GFP_KERNEL);
		if (!*table[i])
			return -ENOMEM;
	}
	return sim_log_init(&pf->log);
}

static void sim_pf_free(struct sim_pf *pf)
{
	sim_log_fini(&pf->log);
	kvfree(pf->flow_hash);
	kvfree(pf->policy[SIM_TX]);
	kvfree(pf->policy[SIM_RX]);
	kvfree(pf->sa[SIM_TX]);
	kvfree(pf->sa[SIM_RX]);
	if (pf->id >= 0)
		ida_free(&sim_ids, pf->id);
}

static void sim_pf_init(struct sim_pf *pf, struct net_device *dev,
			struct net_device *lower)
{
	pf->dev = dev;
	pf->lower = lower;
	pf->id = -1;
	spin_lock_init(&pf->lock);
	spin_lock_init(&pf->txlock);
	spin_lock_init(&pf->frags[SIM_RX].lock);
	spin_lock_init(&pf->frags[SIM_TX].lock);
	INIT_LIST_HEAD(&pf->reps);
	INIT_LIST_HEAD(&pf->sa_all);
	INIT_LIST_HEAD(&pf->flows);
	INIT_LIST_HEAD(&pf->tunnel_fdb.prios);
	INIT_LIST_HEAD(&pf->uplink_fdb.prios);
	INIT_DELAYED_WORK(&pf->lifetime, sim_lifetime_work);
	pf->knobs = sim_defaults;
	pf->encap_mode = DEVLINK_ESWITCH_ENCAP_MODE_BASIC;
	pf->esw_mode = sim_default_legacy ? DEVLINK_ESWITCH_MODE_LEGACY :
					    DEVLINK_ESWITCH_MODE_SWITCHDEV;
	pf->smfs = sim_default_smfs();
}

static void sim_pf_init_dev(struct net_device *dev, struct net_device *lower,
			    struct nlattr *tb[])
{
	if (!tb[IFLA_ADDRESS])
		eth_hw_addr_set(dev, lower->dev_addr);
	memcpy(dev->perm_addr, dev->dev_addr, ETH_ALEN);
	if (!tb[IFLA_MTU])
		dev->mtu = ETH_DATA_LEN;
	dev->needed_headroom = lower->needed_headroom + 64;
	dev->needed_tailroom = 64;
}

/*
 * After the core has flushed states and policies, and all references are
 * gone. flow_indr_dev_unregister() takes rtnl by itself: not in dellink.
 */
static void sim_pf_destroy(struct net_device *dev)
{
	struct sim_pf *pf = netdev_priv(dev);

	if (pf->indirect)
		flow_indr_dev_unregister(sim_indirect_bind, pf,
					 sim_indirect_release);
	cancel_delayed_work_sync(&pf->lifetime);
	sim_devlink_fini(pf);
	sim_pf_free(pf);
}

/* Everything up to the registered netdev; from then on it cleans up itself. */
static int sim_pf_register(struct sim_pf *pf)
{
	int err;

	err = sim_pf_alloc(pf);
	if (err)
		goto free;
	err = ida_alloc(&sim_ids, GFP_KERNEL);
	if (err < 0)
		goto free;
	pf->id = err;
	err = sim_devlink_init(pf);
	if (err)
		goto free;
	SET_NETDEV_DEV(pf->dev, &pf->pdev->dev);
	SET_NETDEV_DEVLINK_PORT(pf->dev, &pf->port);
	err = register_netdevice(pf->dev);
	if (err)
		goto devlink;
	pf->dev->priv_destructor = sim_pf_destroy;
	return 0;

devlink:
	sim_devlink_fini(pf);
free:
	sim_pf_free(pf);
	return err;
}

static int sim_pf_attach(struct sim_pf *pf, struct netlink_ext_ack *extack)
{
	int err;

	err = netdev_rx_handler_register(pf->lower, sim_wire_rx, pf);
	if (err)
		return err;
	err = netdev_upper_dev_link(pf->lower, pf->dev, extack);
	if (err)
		goto handler;
	err = flow_indr_dev_register(sim_indirect_bind, pf);
	if (err)
		goto upper;
	pf->indirect = true;
	netif_stacked_transfer_operstate(pf->lower, pf->dev);
	return 0;

upper:
	netdev_upper_dev_unlink(pf->lower, pf->dev);
handler:
	netdev_rx_handler_unregister(pf->lower);
	return err;
}

static int sim_pf_newlink(struct net *src_net, struct net_device *dev,
			  struct nlattr *tb[], struct nlattr *data[],
			  struct netlink_ext_ack *extack)
{
	struct net_device *lower = sim_pf_lower(src_net, dev, tb, extack);
	struct sim_pf *pf = netdev_priv(dev);
	int err;

	if (IS_ERR(lower))
		return PTR_ERR(lower);
	sim_pf_init(pf, dev, lower);
	sim_pf_init_dev(dev, lower, tb);
	err = sim_pf_register(pf);
	if (err)
		return err;
	err = sim_pf_attach(pf, extack);
	if (err) {
		unregister_netdevice(dev);
		return err;
	}
	sim_debugfs_add(pf);
	schedule_delayed_work(&pf->lifetime, HZ);
	return 0;
}

void sim_pf_dellink(struct net_device *dev, struct list_head *head)
{
	struct sim_pf *pf = netdev_priv(dev);
	struct sim_rep *rep, *next;

	list_for_each_entry_safe(rep, next, &pf->reps, list)
		sim_rep_dellink(rep->dev, head);
	WRITE_ONCE(pf->dying, true);
	debugfs_remove_recursive(pf->debugfs);
	netdev_rx_handler_unregister(pf->lower);
	netdev_upper_dev_unlink(pf->lower, dev);
	unregister_netdevice_queue(dev, head);
}

struct rtnl_link_ops sim_pf_link __read_mostly = {
	.kind = "simpf",
	.priv_size = sizeof(struct sim_pf),
	.setup = sim_pf_setup,
	.newlink = sim_pf_newlink,
	.dellink = sim_pf_dellink,
};
