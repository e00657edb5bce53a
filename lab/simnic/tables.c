// SPDX-License-Identifier: GPL-2.0
/*
 * The IPsec tables and what excludes what. Everything here runs under
 * pf->lock. Names in comments are mlx5's; RULES.md has the list.
 */
#include "simnic.h"

/* mlx5_esw_try_lock(): EINVAL is the lock race, EBUSY the offloaded flows */
int sim_esw_try_lock(struct sim_pf *pf)
{
	u32 races = READ_ONCE(pf->knobs.fail_einval);

	if (races) {
		WRITE_ONCE(pf->knobs.fail_einval, races - 1);
		return -EINVAL;
	}
	return pf->num_flows ? -EBUSY : 0;
}

/* For the log: the driver gives one text for both. */
const char *sim_busy_reason(int err)
{
	return err == -EBUSY ? "flows are offloaded" : "eswitch lock is taken";
}

/* ipsec_rx(), ipsec_tx() */
static struct sim_table *sim_table_of(struct sim_pf *pf, enum sim_dir dir,
				      u16 family)
{
	if (dir == SIM_TX)
		return &pf->tbl[SIM_TBL_TX];
	if (!sim_switchdev(pf) && family == AF_INET6)
		return &pf->tbl[SIM_TBL_RX6];
	return &pf->tbl[SIM_TBL_RX];
}

/*
 * mlx5_eswitch_block_encap(): tables made while the switch encapsulates
 * nothing may do tunnel mode, and then encap-mode stays as it is. From 6.17.4
 * (strict_sa) never in switchdev.
 */
static bool sim_block_encap(struct sim_pf *pf)
{
	if (sim_switchdev(pf) &&
	    (pf->encap_mode != DEVLINK_ESWITCH_ENCAP_MODE_NONE ||
	     READ_ONCE(pf->knobs.strict_sa)))
		return false;
	pf->num_block_encap++;
	return true;
}

/* rx_get(), tx_get(): only the first user looks for flows */
struct sim_table *sim_table_get(struct sim_pf *pf, enum sim_dir dir,
				u16 family)
{
	struct sim_table *tbl = sim_table_of(pf, dir, family);
	int err;

	if (tbl->refs++)
		return tbl;
	err = sim_esw_try_lock(pf);
	if (err) {
		tbl->refs--;
		return ERR_PTR(err);
	}
	pf->num_block_mode++;
	tbl->allow_tunnel = sim_block_encap(pf);
	sim_log(pf, dir == SIM_TX ? EV_TX_MADE : EV_RX_MADE,
		"%s table made", dir == SIM_TX ? "tx" : "rx");
	return tbl;
}

/*
 * rx_put(), tx_put(): with the last TX user the encap rules that are in
 * hardware go back to the wire, and nothing ever turns them again.
 */
void sim_table_put(struct sim_pf *pf, struct sim_table *tbl)
{
	bool tx = tbl == &pf->tbl[SIM_TBL_TX];

	if (--tbl->refs)
		return;
	if (tx)
		sim_flows_to_wire(pf);
	if (tbl->allow_tunnel)
		pf->num_block_encap--;
	tbl->allow_tunnel = false;
	pf->num_block_mode--;
	sim_log(pf, tx ? EV_TX_GONE : EV_RX_GONE, "%s table gone",
		tx ? "tx" : "rx");
}

/* mlx5_eswitch_block_ipsec() */
int sim_object_get(struct sim_pf *pf, const char **why)
{
	if (pf->num_vf_ipsec) {
		*why = "a VF has IPsec enabled";
		return -EBUSY;
	}
	pf->num_objects++;
	return 0;
}

/* mlx5_eswitch_unblock_ipsec() */
void sim_object_put(struct sim_pf *pf)
{
	pf->num_objects--;
}

/* mlx5e_ipsec_block_tc_offload() */
int sim_block_tc(struct sim_pf *pf, const char **why)
{
	if (pf->num_block_ipsec) {
		*why = "the PF itself has offloaded filters";
		return -EBUSY;
	}
	pf->num_block_tc++;
	return 0;
}

/* mlx5e_ipsec_unblock_tc_offload() */
void sim_unblock_tc(struct sim_pf *pf)
{
	pf->num_block_tc--;
}
