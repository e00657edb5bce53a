// SPDX-License-Identifier: GPL-2.0
/*
 * From a flower rule to a sim_flow. Keys and actions this device does not
 * know are refused, and the rule stays in software.
 */
#include <net/vxlan.h>
#include "flow.h"

static const struct {
	u8 id;
	u16 off;
	u8 len;
} sim_keys[] = {
#define SIM_KEY(id, field) { FLOW_DISSECTOR_KEY_##id, \
	offsetof(struct sim_key, field), sizeof_field(struct sim_key, field) }
	SIM_KEY(CONTROL, control),
	SIM_KEY(BASIC, basic),
	SIM_KEY(ETH_ADDRS, eth),
	SIM_KEY(IPV4_ADDRS, v4),
	SIM_KEY(IPV6_ADDRS, v6),
	SIM_KEY(PORTS, ports),
	SIM_KEY(IP, ip),
	SIM_KEY(TCP, tcp),
	SIM_KEY(ICMP, icmp),
	SIM_KEY(ENC_KEYID, enc_keyid),
	SIM_KEY(ENC_IPV4_ADDRS, enc_v4),
	SIM_KEY(ENC_IPV6_ADDRS, enc_v6),
	SIM_KEY(ENC_PORTS, enc_ports),
	SIM_KEY(ENC_IP, enc_ip),
};

/* META and ENC_CONTROL are announced by nearly every rule and say nothing. */
static const u64 sim_ignored = BIT_ULL(FLOW_DISSECTOR_KEY_META) |
			       BIT_ULL(FLOW_DISSECTOR_KEY_ENC_CONTROL);

static u16 sim_addr_type(struct flow_rule *rule,
			 enum flow_dissector_key_id control)
{
	struct flow_dissector *d = rule->match.dissector;
	struct flow_dissector_key_control *c;

	if (!dissector_uses_key(d, control))
		return 0;
	c = skb_flow_dissector_target(d, control, rule->match.key);
	return c->addr_type;
}

/*
 * cls_flower keeps IPv4 and IPv6 addresses in one union and announces both
 * keys; the address type tells which one is meant.
 */
static bool sim_key_meant(struct flow_rule *rule, u8 id)
{
	u16 type;

	switch (id) {
	case FLOW_DISSECTOR_KEY_IPV4_ADDRS:
	case FLOW_DISSECTOR_KEY_IPV6_ADDRS:
		type = sim_addr_type(rule, FLOW_DISSECTOR_KEY_CONTROL);
		return type == id;
	case FLOW_DISSECTOR_KEY_ENC_IPV4_ADDRS:
		type = sim_addr_type(rule, FLOW_DISSECTOR_KEY_ENC_CONTROL);
		return type == FLOW_DISSECTOR_KEY_IPV4_ADDRS;
	case FLOW_DISSECTOR_KEY_ENC_IPV6_ADDRS:
		type = sim_addr_type(rule, FLOW_DISSECTOR_KEY_ENC_CONTROL);
		return type == FLOW_DISSECTOR_KEY_IPV6_ADDRS;
	}
	return true;
}

static void sim_add_match(struct sim_flow *f, struct flow_rule *rule, int i)
{
	struct flow_dissector *d = rule->match.dissector;
	struct sim_match *m = &f->match[f->num_matches];
	u8 *mask;

	mask = skb_flow_dissector_target(d, sim_keys[i].id, rule->match.mask);
	if (!memchr_inv(mask, 0, sim_keys[i].len))
		return;
	m->off = sim_keys[i].off;
	m->len = sim_keys[i].len;
	memcpy(m->mask, mask, m->len);
	memcpy(m->key, skb_flow_dissector_target(d, sim_keys[i].id,
						 rule->match.key), m->len);
	f->num_matches++;
}

static int sim_parse_match(struct sim_flow *f, struct flow_rule *rule,
			   struct netlink_ext_ack *extack)
{
	u64 left = rule->match.dissector->used_keys & ~sim_ignored;
	int i;

	BUILD_BUG_ON(ARRAY_SIZE(sim_keys) > SIM_MATCHES);
	for (i = 0; i < ARRAY_SIZE(sim_keys); i++) {
		if (!(left & BIT_ULL(sim_keys[i].id)))
			continue;
		left &= ~BIT_ULL(sim_keys[i].id);
		if (sim_key_meant(rule, sim_keys[i].id))
			sim_add_match(f, rule, i);
	}
	if (!left)
		return 0;
	NL_SET_ERR_MSG_FMT_MOD(extack, "match keys 0x%llx are not supported",
			       left);
	return -EOPNOTSUPP;
}

static void sim_parse_tunnel(struct sim_act *a,
			     const struct flow_action_entry *e)
{
	if (e->id == FLOW_ACTION_TUNNEL_DECAP) {
		a->type = ACT_DECAP;
		return;
	}
	a->type = ACT_ENCAP;
	a->key = e->tunnel->key;
	a->v6 = ip_tunnel_info_af(e->tunnel) == AF_INET6;
}

static bool sim_rule_has(const struct sim_flow *f, enum sim_act_type type)
{
	int i;

	for (i = 0; i < f->num_actions; i++)
		if (f->act[i].type == type)
			return true;
	return false;
}

static int sim_parse_output(struct sim_pf *pf, struct sim_flow *f,
			    struct sim_act *a,
			    const struct flow_action_entry *e,
			    struct netlink_ext_ack *extack)
{
	struct net_device *dev = e->dev;

	a->mirror = e->id == FLOW_ACTION_MIRRED;
	if (netif_is_vxlan(dev) && sim_rule_has(f, ACT_ENCAP)) {
		a->type = ACT_TUNNEL;
	} else if (sim_is_rep(dev) && sim_dev_pf(dev) == pf) {
		a->type = ACT_REP;
		a->rep = netdev_priv(dev);
	} else if (dev == pf->dev) {
		a->type = ACT_UPLINK;
	} else {
		NL_SET_ERR_MSG_MOD(extack, "output device is not on this switch");
		return -EOPNOTSUPP;
	}
	return 0;
}

static int sim_parse_action(struct sim_pf *pf, struct sim_flow *f,
			    const struct flow_action_entry *e,
			    struct netlink_ext_ack *extack)
{
	struct sim_act *a = &f->act[f->num_actions];

	switch (e->id) {
	case FLOW_ACTION_DROP:
		a->type = ACT_DROP;
		return 0;
	case FLOW_ACTION_TUNNEL_ENCAP:
	case FLOW_ACTION_TUNNEL_DECAP:
		sim_parse_tunnel(a, e);
		return 0;
	case FLOW_ACTION_REDIRECT:
	case FLOW_ACTION_MIRRED:
		return sim_parse_output(pf, f, a, e, extack);
	default:
		NL_SET_ERR_MSG_FMT_MOD(extack, "action %d is not supported",
				       e->id);
		return -EOPNOTSUPP;
	}
}

int sim_rule_parse(struct sim_pf *pf, struct sim_flow *f,
		   struct flow_rule *rule, struct netlink_ext_ack *extack)
{
	const struct flow_action_entry *e;
	int err, i;

	err = sim_parse_match(f, rule, extack);
	if (err)
		return err;
	if (!flow_action_has_entries(&rule->action))
		return -EINVAL;
	flow_action_for_each(i, e, &rule->action) {
		if (f->num_actions == SIM_ACTIONS)
			return -EOPNOTSUPP;
		err = sim_parse_action(pf, f, e, extack);
		if (err)
			return err;
		f->num_actions++;
	}
	return 0;
}

int sim_rule_outputs(const struct sim_flow *f)
{
	int i, n = 0;

	for (i = 0; i < f->num_actions; i++)
		n += f->act[i].type >= ACT_TUNNEL;
	return n;
}

/* Does it encapsulate towards the uplink? */
bool sim_rule_encaps(const struct sim_flow *f)
{
	return sim_rule_has(f, ACT_TUNNEL);
}

/* Does it take or put a tunnel header at all? */
bool sim_rule_reformats(const struct sim_flow *f)
{
	return sim_rule_has(f, ACT_ENCAP) || sim_rule_has(f, ACT_DECAP);
}
