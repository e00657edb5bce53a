// SPDX-License-Identifier: GPL-2.0
/*
 * Representors and the VFs behind them. A representor stays in the namespace
 * of its PF; the VF, named after it with a v behind, may move to another one.
 * A representor holds a reference on its PF, so that it is freed first.
 */
#include <net/dst.h>
#include "simnic.h"

static const struct net_device_ops sim_rep_ops, sim_vf_ops;

bool sim_is_rep(const struct net_device *dev)
{
	return dev->netdev_ops == &sim_rep_ops;
}

/* dev: a PF or a representor */
struct sim_pf *sim_dev_pf(const struct net_device *dev)
{
	struct sim_rep *rep;

	if (sim_is_pf(dev))
		return netdev_priv(dev);
	rep = netdev_priv(dev);
	return rep->pf;
}

/* No offloads on any device here: no GSO, no partial checksum comes in. */
void sim_dev_setup(struct net_device *dev)
{
	ether_setup(dev);
	dev->needs_free_netdev = true;
	dev->priv_flags |= IFF_NO_QUEUE | IFF_LIVE_ADDR_CHANGE;
	dev->priv_flags &= ~IFF_TX_SKB_SHARING;
	dev->lltx = true;
	dev->pcpu_stat_type = NETDEV_PCPU_STAT_TSTATS;
	dev->features |= NETIF_F_SG | NETIF_F_FRAGLIST;
	dev->min_mtu = ETH_MIN_MTU;
	dev->max_mtu = 9216;
}

/* Consumes skb, data at the Ethernet header. */
void sim_rep_deliver(struct sim_rep *rep, struct sk_buff *skb)
{
	unsigned int len = skb->len;

	secpath_reset(skb);
	skb_reset_mac_header(skb);
	if (dev_forward_skb(rep->vf, skb) == NET_RX_SUCCESS)
		dev_sw_netstats_rx_add(rep->vf, len);
}

static netdev_tx_t sim_rep_xmit(struct sk_buff *skb, struct net_device *dev)
{
	unsigned int len = skb->len;

	skb_tx_timestamp(skb);
	sim_rep_deliver(netdev_priv(dev), skb);
	dev_sw_netstats_tx_add(dev, 1, len);
	return NETDEV_TX_OK;
}

/* What no rule takes goes to the representor: the slow path. */
static netdev_tx_t sim_vf_xmit(struct sk_buff *skb, struct net_device *dev)
{
	struct sim_vf *vf = netdev_priv(dev);
	struct sim_rep *rep = vf->rep;
	unsigned int len = skb->len;

	dev_sw_netstats_tx_add(dev, 1, len);
	if (skb_linearize(skb)) {
		kfree_skb(skb);
		return NETDEV_TX_OK;
	}
	if (sim_forward_vf(rep, skb))
		return NETDEV_TX_OK;
	sim_count(rep->pf, CNT_FDB_SLOW_PATH);
	if (dev_forward_skb(rep->dev, skb) == NET_RX_SUCCESS)
		dev_sw_netstats_rx_add(rep->dev, len);
	return NETDEV_TX_OK;
}

static const struct net_device_ops sim_rep_ops = {
	.ndo_start_xmit = sim_rep_xmit,
	.ndo_setup_tc = sim_setup_tc,
	.ndo_set_mac_address = eth_mac_addr,
	.ndo_validate_addr = eth_validate_addr,
};

static const struct net_device_ops sim_vf_ops = {
	.ndo_start_xmit = sim_vf_xmit,
	.ndo_set_mac_address = eth_mac_addr,
	.ndo_validate_addr = eth_validate_addr,
};

static void sim_rep_setup(struct net_device *dev)
{
	sim_dev_setup(dev);
	eth_hw_addr_random(dev);
	dev->netdev_ops = &sim_rep_ops;
	dev->ethtool_ops = &sim_rep_ethtool;
	sim_fix_netns(dev);
	dev->features |= NETIF_F_HW_TC;
	dev->hw_features |= NETIF_F_HW_TC;
}

static void sim_vf_setup(struct net_device *dev)
{
	sim_dev_setup(dev);
	eth_hw_addr_random(dev);
	dev->netdev_ops = &sim_vf_ops;
	dev->ethtool_ops = &sim_rep_ethtool;
	dev->rtnl_link_ops = &sim_vf_link;
	dev->needed_headroom = 192;	/* VXLAN, ESP and an outer IP header */
	dev->needed_tailroom = 64;
}

static void sim_rep_destroy(struct net_device *dev)
{
	struct sim_rep *rep = netdev_priv(dev);

	sim_function_fini(rep);
	dev_put(rep->pf->dev);
}

static struct net_device *sim_vf_alloc(struct sim_rep *rep)
{
	struct net_device *dev;
	struct sim_vf *vf;

	dev = alloc_netdev(sizeof(*vf), "simvf%d", NET_NAME_ENUM,
			   sim_vf_setup);
	if (!dev)
		return NULL;
	dev_net_set(dev, dev_net(rep->dev));
	vf = netdev_priv(dev);
	vf->dev = dev;
	vf->rep = rep;
	return dev;
}

/* After this the devlink port and the reference to the PF are the device's. */
static int sim_rep_register(struct sim_rep *rep)
{
	int err;

	err = sim_function_init(rep);
	if (err)
		return err;
	SET_NETDEV_DEV(rep->dev, &rep->pf->pdev->dev);
	SET_NETDEV_DEVLINK_PORT(rep->dev, &rep->port);
	err = register_netdevice(rep->dev);
	if (err) {
		sim_function_fini(rep);
		return err;
	}
	dev_hold(rep->pf->dev);
	rep->dev->priv_destructor = sim_rep_destroy;
	return 0;
}

static int sim_vf_register(struct sim_rep *rep)
{
	char name[IFNAMSIZ];
	int err;

	snprintf(name, sizeof(name), "%.*sv", IFNAMSIZ - 2, rep->dev->name);
	strscpy(rep->vf->name, name, IFNAMSIZ);
	err = register_netdevice(rep->vf);
	if (err)
		return err;
	return rtnl_configure_link(rep->vf, NULL, 0, NULL);
}

static int sim_rep_create(struct sim_rep *rep)
{
	int err;

	rep->vf = sim_vf_alloc(rep);
	if (!rep->vf)
		return -ENOMEM;
	err = sim_rep_register(rep);
	if (err)
		goto free_vf;
	err = sim_vf_register(rep);
	if (err)
		goto unregister;
	list_add_tail(&rep->list, &rep->pf->reps);
	netif_carrier_on(rep->dev);
	netif_carrier_on(rep->vf);
	return 0;

unregister:
	unregister_netdevice(rep->dev);
	if (rep->vf->reg_state == NETREG_REGISTERED) {
		unregister_netdevice(rep->vf);
		return err;
	}
free_vf:
	free_netdev(rep->vf);
	return err;
}

static int sim_rep_newlink(struct net *src_net, struct net_device *dev,
			   struct nlattr *tb[], struct nlattr *data[],
			   struct netlink_ext_ack *extack)
{
	struct sim_rep *rep = netdev_priv(dev);
	struct net_device *pf = NULL;

	if (tb[IFLA_LINK])
		pf = __dev_get_by_index(src_net, nla_get_u32(tb[IFLA_LINK]));
	if (!pf || !sim_is_pf(pf) || dev_net(pf) != dev_net(dev)) {
		NL_SET_ERR_MSG_MOD(extack, "a representor needs a PF of the same namespace (link)");
		return -EINVAL;
	}
	rep->dev = dev;
	rep->pf = netdev_priv(pf);
	rep->num = rep->pf->next_rep++;
	INIT_LIST_HEAD(&rep->fdb.prios);
	return sim_rep_create(rep);
}

/* May come twice, by way of the PF and of the namespace. */
void sim_rep_dellink(struct net_device *dev, struct list_head *head)
{
	struct sim_rep *rep = netdev_priv(dev);

	list_del_init(&rep->list);
	unregister_netdevice_queue(rep->vf, head);
	unregister_netdevice_queue(dev, head);
}

static void sim_vf_dellink(struct net_device *dev, struct list_head *head)
{
	struct sim_vf *vf = netdev_priv(dev);

	sim_rep_dellink(vf->rep->dev, head);
}

struct rtnl_link_ops sim_rep_link __read_mostly = {
	.kind = "simrep",
	.priv_size = sizeof(struct sim_rep),
	.setup = sim_rep_setup,
	.newlink = sim_rep_newlink,
	.dellink = sim_rep_dellink,
};

/* No newlink of its own: a VF comes and goes with its representor. */
struct rtnl_link_ops sim_vf_link __read_mostly = {
	.kind = "simvf",
	.priv_size = sizeof(struct sim_vf),
	.setup = sim_vf_setup,
	.dellink = sim_vf_dellink,
};
