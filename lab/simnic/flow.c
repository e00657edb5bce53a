// SPDX-License-Identifier: GPL-2.0
/*
 * The store of offloaded rules, and which of them may be offloaded when.
 * Writers hold pf->lock; the forwarding path reads under RCU.
 */
#include <linux/jhash.h>
#include <linux/seq_file.h>
#include <net/pkt_cls.h>
#include <net/vxlan.h>
#include "flow.h"

static struct hlist_head *sim_flow_bucket(struct sim_pf *pf,
					  unsigned long cookie)
{
	return &pf->flow_hash[hash_long(cookie, SIM_HASH_BITS)];
}

static struct sim_flow *sim_flow_find(struct sim_pf *pf, unsigned long cookie,
				      const struct net_device *dev)
{
	struct sim_flow *f;

	hlist_for_each_entry(f, sim_flow_bucket(pf, cookie), hash)
		if (f->cookie == cookie && f->dev == dev)
			return f;
	return NULL;
}

static struct sim_fdb *sim_flow_fdb(struct sim_pf *pf,
				    struct net_device *dev,
				    enum sim_holder holder)
{
	if (holder == HOLDER_TUNNEL)
		return &pf->tunnel_fdb;
	if (holder == HOLDER_UPLINK)
		return &pf->uplink_fdb;
	return &((struct sim_rep *)netdev_priv(dev))->fdb;
}

/*
 * From the end, since filters mostly come in ascending priority. *after is
 * where a new one belongs.
 */
static struct sim_prio *sim_prio_find(struct sim_fdb *fdb, u32 prio,
				      struct list_head **after)
{
	struct sim_prio *p;

	list_for_each_entry_reverse(p, &fdb->prios, node) {
		if (p->prio == prio)
			return p;
		if (p->prio < prio)
			break;
	}
	*after = &p->node;	/* the head, if there is no better one */
	return NULL;
}

/* spare: for a priority that is new; taken or left to the caller */
static void sim_flow_link(struct sim_pf *pf, struct sim_fdb *fdb,
			  struct sim_flow *f, struct sim_prio **spare)
{
	struct list_head *after;
	struct sim_prio *p;

	p = sim_prio_find(fdb, f->prio_value, &after);
	if (!p) {
		p = *spare;
		*spare = NULL;
		p->prio = f->prio_value;
		INIT_LIST_HEAD(&p->flows);
		list_add_rcu(&p->node, after);
	}
	f->prio = p;
	list_add_tail_rcu(&f->node, &p->flows);
	list_add_tail_rcu(&f->all, &pf->flows);
	hlist_add_head(&f->hash, sim_flow_bucket(pf, f->cookie));
}

static void sim_flow_unlink(struct sim_flow *f)
{
	list_del_rcu(&f->node);
	list_del_rcu(&f->all);
	hlist_del(&f->hash);
	if (list_empty(&f->prio->flows)) {
		list_del_rcu(&f->prio->node);
		kfree_rcu(f->prio, rcu);
	}
}

/* mlx5_esw_get() */
static void sim_flow_count(struct sim_pf *pf, const struct sim_flow *f)
{
	if (!pf->num_flows++)
		sim_log(pf, EV_FIRST_FLOW, "first flow offloaded");
	if (f->holder != HOLDER_REP)
		pf->num_uplink_flows++;
	if (f->holder == HOLDER_UPLINK)
		pf->num_block_ipsec++;
}

/* mlx5_esw_put() */
static void sim_flow_uncount(struct sim_pf *pf, const struct sim_flow *f)
{
	if (!--pf->num_flows)
		sim_log(pf, EV_LAST_FLOW, "last flow gone");
	if (f->holder != HOLDER_REP)
		pf->num_uplink_flows--;
	if (f->holder == HOLDER_UPLINK)
		pf->num_block_ipsec--;
}

/*
 * esw_setup_uplink_fwd_ipsec_needed(): a rule takes the IPsec way if the TX
 * table of the switch stands when the rule is made, and it encapsulates.
 */
static bool sim_wants_ipsec(const struct sim_pf *pf, const struct sim_flow *f)
{
	return sim_switchdev(pf) && pf->tbl[SIM_TBL_TX].refs &&
	       sim_rule_encaps(f);
}

/* May this rule be offloaded now? Under pf->lock. */
static int sim_flow_admit(struct sim_pf *pf, struct sim_flow *f,
			  const char **why)
{
	if (f->holder == HOLDER_UPLINK && pf->num_block_tc) {
		*why = "IPsec is offloaded on this device";
		return -EBUSY;		/* mlx5e_tc_block_ipsec_offload() */
	}
	if (f->holder != HOLDER_UPLINK && !sim_switchdev(pf)) {
		*why = "eswitch mode is legacy";
		return -EOPNOTSUPP;
	}
	if (pf->encap_mode == DEVLINK_ESWITCH_ENCAP_MODE_NONE &&
	    sim_rule_reformats(f)) {
		*why = "encap mode is none";
		return -EOPNOTSUPP;	/* esw_create_offloads_fdb_tables() */
	}
	f->ipsec = sim_wants_ipsec(pf, f);
	if (f->ipsec && sim_rule_outputs(f) > 1) {
		*why = "encap beside another destination";
		return -EOPNOTSUPP;	/* esw_flow_dests_fwd_ipsec_check() */
	}
	if (sim_flow_find(pf, f->cookie, f->dev)) {
		*why = "flow cookie already exists";
		return -EEXIST;
	}
	return 0;
}

static int sim_flow_insert(struct sim_pf *pf, struct net_device *holder,
			   struct sim_flow *f, const char **why)
{
	struct sim_prio *spare = kzalloc(sizeof(*spare), GFP_KERNEL);
	int err;

	if (!spare)
		return -ENOMEM;
	spin_lock_bh(&pf->lock);
	err = sim_flow_admit(pf, f, why);
	if (!err) {
		sim_flow_count(pf, f);
		sim_flow_link(pf, sim_flow_fdb(pf, holder, f->holder), f,
			      &spare);
	}
	spin_unlock_bh(&pf->lock);
	kfree(spare);
	return err;
}

static void sim_flow_set(struct sim_pf *pf, struct net_device *dev,
			 struct sim_flow *f, struct flow_cls_offload *cls)
{
	f->cookie = cls->cookie;
	f->prio_value = cls->common.prio;
	f->dev = dev;
	f->used = jiffies;
	strscpy(f->name, dev->name, sizeof(f->name));
	if (dev == pf->dev) {
		f->holder = HOLDER_UPLINK;
	} else if (sim_is_rep(dev)) {
		f->holder = HOLDER_REP;
	} else {
		f->holder = HOLDER_TUNNEL;
		f->port = ((struct vxlan_dev *)netdev_priv(dev))->cfg.dst_port;
	}
}

static int sim_flow_build(struct sim_pf *pf, struct net_device *dev,
			  struct flow_cls_offload *cls, const char **why)
{
	struct netlink_ext_ack *extack = cls->common.extack;
	struct sim_flow *f;
	int err;

	if (cls->common.chain_index) {
		*why = "chains are not supported";
		return -EOPNOTSUPP;
	}
	f = kzalloc(sizeof(*f), GFP_KERNEL);
	if (!f)
		return -ENOMEM;
	sim_flow_set(pf, dev, f, cls);
	err = sim_rule_parse(pf, f, flow_cls_offload_flow_rule(cls), extack);
	if (err)
		*why = "not in this device's words";
	else
		err = sim_flow_insert(pf, dev, f, why);
	if (err)
		kfree(f);
	return err;
}

/*
 * mlx5e_configure_flower(), mlx5e_tc_add_flow(): a representor's filters look
 * at its own hw-tc-offload, those of the PF and of tunnels at the PF's.
 */
static int sim_flow_add(struct sim_pf *pf, struct net_device *dev,
			struct flow_cls_offload *cls)
{
	struct net_device *port = sim_is_rep(dev) ? dev : pf->dev;
	const char *why = NULL;
	int err;

	if (tc_can_offload_extack(port, cls->common.extack)) {
		err = sim_flow_build(pf, dev, cls, &why);
	} else {
		err = -EOPNOTSUPP;
		why = "hw-tc-offload is off";
	}
	if (err)
		sim_log_refusal(pf, EV_NO_FLOW, "flow add", err, why);
	return err;
}

static int sim_flow_del(struct sim_pf *pf, struct net_device *dev,
			struct flow_cls_offload *cls)
{
	struct sim_flow *f;

	spin_lock_bh(&pf->lock);
	f = sim_flow_find(pf, cls->cookie, dev);
	if (f) {
		sim_flow_unlink(f);
		sim_flow_uncount(pf, f);
	}
	spin_unlock_bh(&pf->lock);
	if (!f)
		return -ENOENT;
	kfree_rcu(f, rcu);
	return 0;
}

static int sim_flow_stats(struct sim_pf *pf, struct net_device *dev,
			  struct flow_cls_offload *cls)
{
	struct sim_flow *f;
	u64 pkts, bytes;

	spin_lock_bh(&pf->lock);
	f = sim_flow_find(pf, cls->cookie, dev);
	if (f) {
		pkts = atomic64_read(&f->pkts);
		bytes = atomic64_read(&f->bytes);
		flow_stats_update(&cls->stats, bytes - f->told_bytes,
				  pkts - f->told_pkts, 0, READ_ONCE(f->used),
				  FLOW_ACTION_HW_STATS_DELAYED);
		f->told_pkts = pkts;
		f->told_bytes = bytes;
	}
	spin_unlock_bh(&pf->lock);
	return f ? 0 : -ENOENT;
}

int sim_flow_command(struct sim_pf *pf, struct net_device *holder,
		     struct flow_cls_offload *cls)
{
	switch (cls->command) {
	case FLOW_CLS_REPLACE:
		return sim_flow_add(pf, holder, cls);
	case FLOW_CLS_DESTROY:
		return sim_flow_del(pf, holder, cls);
	case FLOW_CLS_STATS:
		return sim_flow_stats(pf, holder, cls);
	default:
		return -EOPNOTSUPP;
	}
}

/*
 * mlx5_esw_ipsec_restore_dest_uplink(): the TX table goes away under rules
 * that lead to it; from now on they lead to the wire. Under pf->lock.
 */
void sim_flows_to_wire(struct sim_pf *pf)
{
	struct sim_flow *f;
	unsigned int n = 0;

	list_for_each_entry(f, &pf->flows, all) {
		n += f->ipsec;
		WRITE_ONCE(f->ipsec, false);
	}
	if (n)
		sim_log(pf, EV_TO_WIRE,
			"%u encap rules pointed back at the wire", n);
}

/* The representor goes away: rules that send to it send to nobody. */
void sim_flows_forget(struct sim_pf *pf, struct net_device *dev)
{
	struct sim_rep *rep = netdev_priv(dev);
	struct sim_flow *f;
	int i;

	spin_lock_bh(&pf->lock);
	list_for_each_entry(f, &pf->flows, all)
		for (i = 0; i < f->num_actions; i++)
			if (f->act[i].rep == rep)
				WRITE_ONCE(f->act[i].rep, NULL);
	spin_unlock_bh(&pf->lock);
}

static const char *const sim_act_names[] = {
	[ACT_DROP] = "drop", [ACT_ENCAP] = "encap", [ACT_DECAP] = "decap",
	[ACT_TUNNEL] = "tunnel", [ACT_REP] = "rep", [ACT_UPLINK] = "uplink",
};

/* One line per rule; a match is offset into struct sim_key, key and mask. */
void sim_flows_show(struct seq_file *s, struct sim_pf *pf)
{
	struct sim_flow *f;
	int i;

	rcu_read_lock();
	list_for_each_entry_rcu(f, &pf->flows, all) {
		seq_printf(s, "dev %s prio %u%s pkts %lld bytes %lld", f->name,
			   f->prio_value >> 16,
			   READ_ONCE(f->ipsec) ? " ipsec" : "",
			   (s64)atomic64_read(&f->pkts),
			   (s64)atomic64_read(&f->bytes));
		for (i = 0; i < f->num_matches; i++)
			seq_printf(s, " @%u %*phN/%*phN", f->match[i].off,
				   f->match[i].len, f->match[i].key,
				   f->match[i].len, f->match[i].mask);
		for (i = 0; i < f->num_actions; i++)
			seq_printf(s, " %s", sim_act_names[f->act[i].type]);
		seq_putc(s, '\n');
	}
	rcu_read_unlock();
}
