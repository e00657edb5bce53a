// SPDX-License-Identifier: GPL-2.0
/* debugfs simnic/simnic.N: state, flows, log (read only) and the knobs. */
#include <linux/debugfs.h>
#include <linux/seq_file.h>
#include "simnic.h"

static struct dentry *sim_root;

static void sim_show_device(struct seq_file *s, struct sim_pf *pf)
{
	seq_printf(s, "netdev %s\n", pf->dev->name);
	seq_printf(s, "lower %s\n", pf->lower->name);
	seq_printf(s, "mode %s\n", sim_switchdev(pf) ? "switchdev" : "legacy");
	seq_printf(s, "encap %s\n", pf->encap_mode ? "basic" : "none");
	seq_printf(s, "steering %s\n", pf->smfs ? "smfs" : "dmfs");
}

static void sim_show_tables(struct seq_file *s, struct sim_pf *pf)
{
	const struct sim_table *rx = &pf->tbl[SIM_TBL_RX];
	const struct sim_table *rx6 = &pf->tbl[SIM_TBL_RX6];
	const struct sim_table *tx = &pf->tbl[SIM_TBL_TX];

	seq_printf(s, "tx_tables %u\n", !!tx->refs);
	seq_printf(s, "rx_tables %u\n", !!rx->refs + !!rx6->refs);
	seq_printf(s, "tx_refs %u\n", tx->refs);
	seq_printf(s, "rx_refs %u\n", rx->refs + rx6->refs);
	seq_printf(s, "tx_states %u\n", pf->num_sa[SIM_TX]);
	seq_printf(s, "rx_states %u\n", pf->num_sa[SIM_RX]);
	seq_printf(s, "tx_policies %u\n", pf->num_policies[SIM_TX]);
	seq_printf(s, "rx_policies %u\n", pf->num_policies[SIM_RX]);
}

static void sim_show_exclusion(struct seq_file *s, struct sim_pf *pf)
{
	seq_printf(s, "offloaded_flows %u\n", pf->num_flows);
	seq_printf(s, "uplink_flows %u\n", pf->num_uplink_flows);
	seq_printf(s, "num_block_mode %u\n", pf->num_block_mode);
	seq_printf(s, "num_block_encap %u\n", pf->num_block_encap);
	seq_printf(s, "num_block_tc %u\n", pf->num_block_tc);
	seq_printf(s, "num_block_ipsec %u\n", pf->num_block_ipsec);
	seq_printf(s, "vf_ipsec_caps %u\n", pf->num_vf_ipsec);
}

static int state_show(struct seq_file *s, void *v)
{
	struct sim_pf *pf = s->private;

	spin_lock_bh(&pf->lock);
	sim_show_device(s, pf);
	sim_show_tables(s, pf);
	sim_show_exclusion(s, pf);
	spin_unlock_bh(&pf->lock);
	sim_counters_show(s, pf);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(state);

static int flows_show(struct seq_file *s, void *v)
{
	sim_flows_show(s, s->private);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(flows);

static int log_show(struct seq_file *s, void *v)
{
	struct sim_pf *pf = s->private;

	sim_log_show(s, &pf->log);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(log);

/*
 * ethtool asks how many counters there are, then for their names: the number
 * must not change between, and rtnl is what ethtool holds. Not waited for,
 * since who removes this file holds it too and waits for us.
 */
static ssize_t rx_policy_after_decrypt_write(struct file *file,
					     const char __user *buf,
					     size_t len, loff_t *pos)
{
	struct sim_pf *pf = ((struct seq_file *)file->private_data)->private;
	bool on;
	int err;

	err = kstrtobool_from_user(buf, len, &on);
	if (err)
		return err;
	if (!rtnl_trylock())
		return restart_syscall();
	WRITE_ONCE(pf->knobs.after_decrypt, on);
	rtnl_unlock();
	return len;
}

static int rx_policy_after_decrypt_show(struct seq_file *s, void *v)
{
	struct sim_pf *pf = s->private;

	seq_printf(s, "%c\n", READ_ONCE(pf->knobs.after_decrypt) ? 'Y' : 'N');
	return 0;
}
DEFINE_SHOW_STORE_ATTRIBUTE(rx_policy_after_decrypt);

void sim_debugfs_add(struct sim_pf *pf)
{
	struct sim_knobs *k = &pf->knobs;
	struct dentry *d;
	char name[32];

	snprintf(name, sizeof(name), "simnic.%u", pf->id);
	d = debugfs_create_dir(name, sim_root);
	pf->debugfs = d;
	debugfs_create_file("state", 0444, d, pf, &state_fops);
	debugfs_create_file("flows", 0444, d, pf, &flows_fops);
	debugfs_create_file("log", 0444, d, pf, &log_fops);
	debugfs_create_bool("strict_sa", 0644, d, &k->strict_sa);
	debugfs_create_file("rx_policy_after_decrypt", 0644, d, pf,
			    &rx_policy_after_decrypt_fops);
	debugfs_create_bool("no_policy_priority", 0644, d, &k->no_priority);
	debugfs_create_bool("no_fdb", 0644, d, &k->no_fdb);
	debugfs_create_bool("lose_tx_sa", 0644, d, &k->lose_tx_sa);
	debugfs_create_u32("max_rx_sa", 0644, d, &k->max_rx_sa);
	debugfs_create_u32("fail_einval", 0644, d, &k->fail_einval);
}

void sim_debugfs_init(void)
{
	sim_root = debugfs_create_dir(KBUILD_MODNAME, NULL);
}

void sim_debugfs_exit(void)
{
	debugfs_remove_recursive(sim_root);
}
