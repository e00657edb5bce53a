// SPDX-License-Identifier: GPL-2.0
/* Module parameters, registration, and what follows from other devices. */
#include "simnic.h"

/* What a PF made from now on starts with; debugfs changes one PF later. */
struct sim_knobs sim_defaults = { .max_rx_sa = 2047 };

module_param_named(strict_sa, sim_defaults.strict_sa, bool, 0644);
MODULE_PARM_DESC(strict_sa, "every SA add is refused while flows are offloaded (Linux 6.18)");
module_param_named(rx_policy_after_decrypt, sim_defaults.after_decrypt, bool, 0644);
MODULE_PARM_DESC(rx_policy_after_decrypt, "RX policies see decrypted packets only (Linux 6.15)");
module_param_named(no_policy_priority, sim_defaults.no_priority, bool, 0644);
MODULE_PARM_DESC(no_policy_priority, "the card knows no policy priority");
module_param_named(max_rx_sa, sim_defaults.max_rx_sa, uint, 0644);
MODULE_PARM_DESC(max_rx_sa, "inbound SAs per PF, 0: no limit (default 2047)");
module_param_named(fail_einval, sim_defaults.fail_einval, uint, 0644);
MODULE_PARM_DESC(fail_einval, "so many times the eswitch lock is taken by another: EINVAL");

bool sim_default_legacy;
module_param_named(legacy, sim_default_legacy, bool, 0644);
MODULE_PARM_DESC(legacy, "start in eswitch mode legacy");

static char steering[8] = "dmfs";
module_param_string(steering, steering, sizeof(steering), 0644);
MODULE_PARM_DESC(steering, "flow steering mode at start: dmfs or smfs");

bool sim_default_smfs(void)
{
	return sysfs_streq(steering, "smfs");
}

/*
 * A mirred action tells no driver that its device goes away, so rules that
 * send to a dying representor are told here; readers are under RCU and the
 * core waits for them after this event.
 */
static void sim_rep_gone(struct net_device *dev)
{
	sim_flows_forget(sim_dev_pf(dev), dev);
}

static void sim_lower_event(struct sim_pf *pf, unsigned long event)
{
	LIST_HEAD(head);

	switch (event) {
	case NETDEV_UNREGISTER:		/* no PF without a wire */
		sim_pf_dellink(pf->dev, &head);
		unregister_netdevice_many(&head);
		break;
	case NETDEV_CHANGE:
	case NETDEV_UP:
	case NETDEV_DOWN:
		netif_stacked_transfer_operstate(pf->lower, pf->dev);
		break;
	}
}

static int sim_event(struct notifier_block *nb, unsigned long event, void *ptr)
{
	struct net_device *dev = netdev_notifier_info_to_dev(ptr);
	struct sim_pf *pf;

	if (sim_is_rep(dev)) {
		if (event == NETDEV_UNREGISTER)
			sim_rep_gone(dev);
		return NOTIFY_DONE;
	}
	pf = sim_pf_above(dev);
	if (pf)
		sim_lower_event(pf, event);
	return NOTIFY_DONE;
}

static struct notifier_block sim_notifier = { .notifier_call = sim_event };

static struct rtnl_link_ops *const sim_links[] = {
	&sim_pf_link, &sim_rep_link, &sim_vf_link,
};

static void sim_unregister_links(int n)
{
	while (n--)
		rtnl_link_unregister(sim_links[n]);
}

static int __init sim_init(void)
{
	int err, i;

	sim_forward_init();
	sim_debugfs_init();
	err = register_netdevice_notifier(&sim_notifier);
	if (err)
		goto debugfs;
	for (i = 0; i < ARRAY_SIZE(sim_links); i++) {
		err = rtnl_link_register(sim_links[i]);
		if (err)
			goto links;
	}
	return 0;

links:
	sim_unregister_links(i);
	unregister_netdevice_notifier(&sim_notifier);
debugfs:
	sim_debugfs_exit();
	return err;
}

static void __exit sim_exit(void)
{
	sim_unregister_links(ARRAY_SIZE(sim_links));
	unregister_netdevice_notifier(&sim_notifier);
	sim_debugfs_exit();
	rcu_barrier();		/* flows are freed by RCU */
}

module_init(sim_init);
module_exit(sim_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("simulated NIC with IPsec packet offload and flower offload");
MODULE_ALIAS_RTNL_LINK("simpf");
MODULE_ALIAS_RTNL_LINK("simrep");
MODULE_IMPORT_NS(NETDEV_INTERNAL);
