/* SPDX-License-Identifier: GPL-2.0 */
/* Offloaded flow rules: shared by rule.c, flow.c and forward.c. */
#ifndef SIMNIC_FLOW_H
#define SIMNIC_FLOW_H

#include <net/flow_dissector.h>
#include "simnic.h"

#define SIM_MATCHES 20
#define SIM_MATCH_LEN 40
#define SIM_ACTIONS 10

/* What is known of a frame when rules are tried. */
struct sim_key {
	struct flow_dissector_key_control control;
	struct flow_dissector_key_basic basic;
	struct flow_dissector_key_eth_addrs eth;
	struct flow_dissector_key_ipv4_addrs v4;
	struct flow_dissector_key_ipv6_addrs v6;
	struct flow_dissector_key_ports ports;
	struct flow_dissector_key_ip ip;
	struct flow_dissector_key_tcp tcp;
	struct flow_dissector_key_icmp icmp;
	struct flow_dissector_key_keyid enc_keyid;
	struct flow_dissector_key_ipv4_addrs enc_v4;
	struct flow_dissector_key_ipv6_addrs enc_v6;
	struct flow_dissector_key_ports enc_ports;
	struct flow_dissector_key_ip enc_ip;
} __aligned(BITS_PER_LONG / 8);

/* len bytes of a sim_key at off */
struct sim_match {
	u16 off;
	u8 len;
	u8 key[SIM_MATCH_LEN], mask[SIM_MATCH_LEN];
};

enum sim_act_type {
	ACT_DROP,
	ACT_ENCAP,		/* sets what the next ACT_TUNNEL writes */
	ACT_DECAP,
	ACT_TUNNEL,		/* out of a vxlan device: encap to the uplink */
	ACT_REP,		/* to the function behind a representor */
	ACT_UPLINK,		/* to the wire as it is */
};

struct sim_act {
	enum sim_act_type type;
	bool mirror;		/* a copy; the frame goes on */
	bool v6;
	struct sim_rep *rep;	/* RCU; NULL once it is gone */
	struct ip_tunnel_key key;
};

/* Who holds the filter. */
enum sim_holder { HOLDER_REP, HOLDER_UPLINK, HOLDER_TUNNEL };

struct sim_prio {
	struct list_head node;		/* in a sim_fdb, best first */
	struct list_head flows;
	struct rcu_head rcu;
	u32 prio;
};

struct sim_flow {
	struct list_head node;		/* in a sim_prio */
	struct list_head all;		/* in pf->flows */
	struct hlist_node hash;		/* in pf->flow_hash */
	struct rcu_head rcu;
	struct sim_prio *prio;
	unsigned long cookie;
	const struct net_device *dev;	/* the holder: to compare, not to follow */
	char name[IFNAMSIZ];
	enum sim_holder holder;
	__be16 port;			/* UDP port of a tunnel holder */
	bool ipsec;			/* encap goes to the IPsec TX tables */
	u32 prio_value;
	int num_matches, num_actions;
	struct sim_match match[SIM_MATCHES];
	struct sim_act act[SIM_ACTIONS];
	atomic64_t pkts, bytes;
	u64 told_pkts, told_bytes;
	unsigned long used;		/* jiffies */
};

/* rule.c */
int sim_rule_parse(struct sim_pf *pf, struct sim_flow *f,
		   struct flow_rule *rule, struct netlink_ext_ack *extack);
int sim_rule_outputs(const struct sim_flow *f);
bool sim_rule_encaps(const struct sim_flow *f);
bool sim_rule_reformats(const struct sim_flow *f);

#endif
