// SPDX-License-Identifier: GPL-2.0
/* devlink ports of VFs, and the IPsec capabilities of the functions. */
#include "simnic.h"

static struct sim_rep *sim_port_rep(struct devlink_port *port)
{
	return container_of(port, struct sim_rep, port);
}

/* mlx5_devlink_port_fn_ipsec_packet_set(): refused without a text */
static int sim_cap_change(struct sim_pf *pf, bool *cap, bool on)
{
	if (*cap == on)
		return 0;
	if (!pf->num_vf_ipsec && pf->num_objects)
		return -EBUSY;
	*cap = on;
	pf->num_vf_ipsec += on ? 1 : -1;
	return 0;
}

static int sim_cap_set(struct sim_rep *rep, bool *cap, bool on)
{
	struct sim_pf *pf = rep->pf;
	int err;

	spin_lock_bh(&pf->lock);
	err = sim_cap_change(pf, cap, on);
	spin_unlock_bh(&pf->lock);
	if (err)
		sim_log_refusal(pf, EV_NO_DEVLINK, "VF function", err,
				"the PF has IPsec objects");
	return err;
}

static int sim_packet_get(struct devlink_port *port, bool *on,
			  struct netlink_ext_ack *extack)
{
	*on = READ_ONCE(sim_port_rep(port)->ipsec_packet);
	return 0;
}

static int sim_packet_set(struct devlink_port *port, bool on,
			  struct netlink_ext_ack *extack)
{
	struct sim_rep *rep = sim_port_rep(port);

	return sim_cap_set(rep, &rep->ipsec_packet, on);
}

static int sim_crypto_get(struct devlink_port *port, bool *on,
			  struct netlink_ext_ack *extack)
{
	*on = READ_ONCE(sim_port_rep(port)->ipsec_crypto);
	return 0;
}

static int sim_crypto_set(struct devlink_port *port, bool on,
			  struct netlink_ext_ack *extack)
{
	struct sim_rep *rep = sim_port_rep(port);

	return sim_cap_set(rep, &rep->ipsec_crypto, on);
}

/* The factory address: it does not change when the VF's own does. */
static int sim_hw_addr_get(struct devlink_port *port, u8 *addr, int *len,
			   struct netlink_ext_ack *extack)
{
	*len = ETH_ALEN;
	ether_addr_copy(addr, sim_port_rep(port)->vf_addr);
	return 0;
}

static const struct devlink_port_ops sim_port_ops = {
	.port_fn_hw_addr_get = sim_hw_addr_get,
	.port_fn_ipsec_packet_get = sim_packet_get,
	.port_fn_ipsec_packet_set = sim_packet_set,
	.port_fn_ipsec_crypto_get = sim_crypto_get,
	.port_fn_ipsec_crypto_set = sim_crypto_set,
};

int sim_function_init(struct sim_rep *rep)
{
	struct devlink *devlink = rep->pf->devlink;
	struct netdev_phys_item_id *id = &rep->port.attrs.switch_id;
	int err;

	ether_addr_copy(rep->vf_addr, rep->vf->dev_addr);
	devl_lock(devlink);
	devlink_port_attrs_pci_vf_set(&rep->port, 0, rep->pf->id, rep->num,
				      false);
	id->id_len = ETH_ALEN;
	ether_addr_copy(id->id, rep->pf->dev->perm_addr);
	err = devl_port_register_with_ops(devlink, &rep->port, rep->num,
					  &sim_port_ops);
	devl_unlock(devlink);
	return err;
}

void sim_function_fini(struct sim_rep *rep)
{
	struct sim_pf *pf = rep->pf;

	spin_lock_bh(&pf->lock);
	pf->num_vf_ipsec -= rep->ipsec_packet + rep->ipsec_crypto;
	spin_unlock_bh(&pf->lock);
	devl_lock(pf->devlink);
	devl_port_unregister(&rep->port);
	devl_unlock(pf->devlink);
}
