// SPDX-License-Identifier: GPL-2.0
/*
 * How filters reach the device: from its own netdevs by ndo_setup_tc, from
 * tunnel devices by the indirect way (mlx5: mlx5e_rep_indr_setup_cb()).
 * The lists are under rtnl.
 */
#include <net/pkt_cls.h>
#include <net/vxlan.h>
#include "simnic.h"

static LIST_HEAD(sim_block_cbs);
static LIST_HEAD(sim_indirect_cbs);
static LIST_HEAD(sim_indirects);

struct sim_indirect {
	struct list_head list;
	struct sim_pf *pf;
	struct net_device *dev;
};

static int sim_block_cb(enum tc_setup_type type, void *data, void *priv)
{
	struct net_device *dev = priv;

	if (type != TC_SETUP_CLSFLOWER)
		return -EOPNOTSUPP;
	return sim_flow_command(sim_dev_pf(dev), dev, data);
}

int sim_setup_tc(struct net_device *dev, enum tc_setup_type type, void *data)
{
	if (type != TC_SETUP_BLOCK)
		return -EOPNOTSUPP;
	return flow_block_cb_setup_simple(data, &sim_block_cbs, sim_block_cb,
					  dev, dev, true);
}

static int sim_indirect_cb(enum tc_setup_type type, void *data, void *priv)
{
	struct sim_indirect *i = priv;

	if (type != TC_SETUP_CLSFLOWER)
		return -EOPNOTSUPP;
	return sim_flow_command(i->pf, i->dev, data);
}

void sim_indirect_release(void *priv)
{
	struct sim_indirect *i = priv;

	list_del(&i->list);
	kfree(i);
}

static struct sim_indirect *sim_indirect_find(struct sim_pf *pf,
					      struct net_device *dev)
{
	struct sim_indirect *i;

	list_for_each_entry(i, &sim_indirects, list)
		if (i->pf == pf && i->dev == dev)
			return i;
	return NULL;
}

static int sim_bind(struct sim_pf *pf, struct net_device *dev,
		    struct Qdisc *sch, struct flow_block_offload *bo,
		    void *data, void (*cleanup)(struct flow_block_cb *))
{
	struct flow_block_cb *cb;
	struct sim_indirect *i;

	if (sim_indirect_find(pf, dev))
		return -EEXIST;
	i = kzalloc(sizeof(*i), GFP_KERNEL);
	if (!i)
		return -ENOMEM;
	i->pf = pf;
	i->dev = dev;
	list_add(&i->list, &sim_indirects);
	cb = flow_indr_block_cb_alloc(sim_indirect_cb, i, i,
				      sim_indirect_release, bo, dev, sch, data,
				      pf, cleanup);
	if (IS_ERR(cb)) {
		sim_indirect_release(i);
		return PTR_ERR(cb);
	}
	flow_block_cb_add(cb, bo);
	list_add_tail(&cb->driver_list, &sim_indirect_cbs);
	return 0;
}

static int sim_unbind(struct sim_pf *pf, struct net_device *dev,
		      struct flow_block_offload *bo)
{
	struct sim_indirect *i = sim_indirect_find(pf, dev);
	struct flow_block_cb *cb;

	if (!i)
		return -ENOENT;
	cb = flow_block_cb_lookup(bo->block, sim_indirect_cb, i);
	if (!cb)
		return -ENOENT;
	flow_indr_block_cb_remove(cb, bo);
	list_del(&cb->driver_list);
	return 0;
}

/* mlx5e_rep_check_indr_block_supported(), as far as vxlan goes */
static bool sim_indirect_ours(struct sim_pf *pf, struct net_device *dev,
			      const struct flow_block_offload *bo)
{
	return !pf->dying && netif_is_vxlan(dev) &&
	       net_eq(dev_net(dev), dev_net(pf->dev)) &&
	       bo->binder_type == FLOW_BLOCK_BINDER_TYPE_CLSACT_INGRESS;
}

/* The core knows no namespaces here: every PF is asked about every device. */
int sim_indirect_bind(struct net_device *dev, struct Qdisc *sch, void *cb_priv,
		      enum tc_setup_type type, void *type_data, void *data,
		      void (*cleanup)(struct flow_block_cb *block_cb))
{
	struct flow_block_offload *bo = type_data;
	struct sim_pf *pf = cb_priv;

	if (!dev || type != TC_SETUP_BLOCK || !sim_indirect_ours(pf, dev, bo))
		return -EOPNOTSUPP;
	bo->driver_block_list = &sim_indirect_cbs;
	switch (bo->command) {
	case FLOW_BLOCK_BIND:
		return sim_bind(pf, dev, sch, bo, data, cleanup);
	case FLOW_BLOCK_UNBIND:
		return sim_unbind(pf, dev, bo);
	default:
		return -EOPNOTSUPP;
	}
}
