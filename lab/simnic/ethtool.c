// SPDX-License-Identifier: GPL-2.0
/* Counters: mlx5's names in ethtool -S, plain names in debugfs. */
#include <linux/ethtool.h>
#include <linux/seq_file.h>
#include "simnic.h"

static const struct {
	const char *ethtool, *state;
} sim_counters[CNT_MAX] = {
	[CNT_RX_ESP] = { "ipsec_rx_pkts", "rx_esp" },
	[CNT_RX_ESP_BYTES] = { "ipsec_rx_bytes", "rx_esp_bytes" },
	[CNT_RX_BLOCKED] = { "ipsec_rx_drop_pkts", "rx_blocked" },
	[CNT_RX_BLOCKED_BYTES] = { "ipsec_rx_drop_bytes", "rx_blocked_bytes" },
	[CNT_RX_MISMATCH] = { "ipsec_rx_drop_mismatch_sa_sel", "rx_mismatch" },
	[CNT_TX_ESP] = { "ipsec_tx_pkts", "tx_esp" },
	[CNT_TX_ESP_BYTES] = { "ipsec_tx_bytes", "tx_esp_bytes" },
	[CNT_TX_BLOCKED] = { "ipsec_tx_drop_pkts", "tx_blocked" },
	[CNT_TX_BLOCKED_BYTES] = { "ipsec_tx_drop_bytes", "tx_blocked_bytes" },
	[CNT_RX_SP_ALLOC] = { "ipsec_rx_drop_sp_alloc", "rx_sp_alloc" },
	[CNT_RX_SADB_MISS] = { "ipsec_rx_drop_sadb_miss", "rx_sadb_miss" },
	[CNT_TX_BUNDLE] = { "ipsec_tx_drop_bundle", NULL },
	[CNT_TX_NO_STATE] = { "ipsec_tx_drop_no_state", NULL },
	[CNT_TX_NOT_IP] = { "ipsec_tx_drop_not_ip", NULL },
	[CNT_TX_TRAILER] = { "ipsec_tx_drop_trailer", NULL },
	[CNT_TX_CLEAR_VXLAN] = { "sim_tx_clear_vxlan", "tx_clear_vxlan" },
	[CNT_RX_CLEAR_VXLAN] = { "sim_rx_clear_vxlan", "rx_clear_vxlan" },
	[CNT_TX_SA_MISS] = { "sim_tx_sa_miss", "tx_sa_miss" },
	[CNT_RX_SA_MISS] = { "sim_rx_sa_miss", "rx_sa_miss" },
	[CNT_RX_AUTH_FAIL] = { "sim_rx_auth_fail", "rx_auth_fail" },
	[CNT_RX_REPLAY] = { "sim_rx_replay", "rx_replay" },
	[CNT_RX_TRAILER] = { "sim_rx_trailer", "rx_trailer" },
	[CNT_RX_DROP] = { "sim_rx_drop", "rx_drop" },
	[CNT_TX_ERROR] = { "sim_tx_error", "tx_error" },
	[CNT_FDB_ENCAP] = { "sim_fdb_encap", "fdb_encap" },
	[CNT_FDB_DECAP] = { "sim_fdb_decap", "fdb_decap" },
	[CNT_FDB_LOCAL] = { "sim_fdb_local", "fdb_local" },
	[CNT_FDB_SLOW_PATH] = { "sim_fdb_slow_path", "fdb_slow_path" },
	[CNT_FDB_NO_NEIGH] = { "sim_fdb_no_neigh", "fdb_no_neigh" },
};

/* The mismatch counter came with 6.15: programs know the contract by it. */
static bool sim_counter_shown(struct sim_pf *pf, int i)
{
	return i != CNT_RX_MISMATCH || READ_ONCE(pf->knobs.after_decrypt);
}

static int sim_sset_count(struct net_device *dev, int set)
{
	struct sim_pf *pf = netdev_priv(dev);

	if (set != ETH_SS_STATS)
		return -EOPNOTSUPP;
	return sim_counter_shown(pf, CNT_RX_MISMATCH) ? CNT_MAX : CNT_MAX - 1;
}

static void sim_strings(struct net_device *dev, u32 set, u8 *buf)
{
	struct sim_pf *pf = netdev_priv(dev);
	int i;

	for (i = 0; set == ETH_SS_STATS && i < CNT_MAX; i++)
		if (sim_counter_shown(pf, i))
			ethtool_puts(&buf, sim_counters[i].ethtool);
}

/* n_stats is what the core made room for; the knob may have changed since. */
static void sim_stats(struct net_device *dev, struct ethtool_stats *s,
		      u64 *data)
{
	struct sim_pf *pf = netdev_priv(dev);
	u32 i, n = 0;

	for (i = 0; i < CNT_MAX && n < s->n_stats; i++)
		if (sim_counter_shown(pf, i))
			data[n++] = atomic64_read(&pf->cnt[i]);
}

static void sim_drvinfo(struct net_device *dev, struct ethtool_drvinfo *info)
{
	struct device *parent = dev->dev.parent;

	strscpy(info->driver, KBUILD_MODNAME, sizeof(info->driver));
	if (parent)
		strscpy(info->bus_info, dev_name(parent),
			sizeof(info->bus_info));
}

const struct ethtool_ops sim_pf_ethtool = {
	.get_drvinfo = sim_drvinfo,
	.get_link = ethtool_op_get_link,
	.get_sset_count = sim_sset_count,
	.get_strings = sim_strings,
	.get_ethtool_stats = sim_stats,
};

const struct ethtool_ops sim_rep_ethtool = {
	.get_drvinfo = sim_drvinfo,
	.get_link = ethtool_op_get_link,
};

void sim_counters_show(struct seq_file *s, struct sim_pf *pf)
{
	int i;

	for (i = 0; i < CNT_MAX; i++)
		if (sim_counters[i].state)
			seq_printf(s, "%s %lld\n", sim_counters[i].state,
				   (s64)atomic64_read(&pf->cnt[i]));
}
