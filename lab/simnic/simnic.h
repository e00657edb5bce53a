/* SPDX-License-Identifier: GPL-2.0 */
/*
 * simnic: a software model of a NIC with an embedded switch, IPsec packet
 * offload and flower offload. It refuses what mlx5 refuses (RULES.md), really
 * encrypts, forwards offloaded rules past the host stack, and counts every
 * VXLAN packet that crosses the wire in clear.
 *
 * Locks, outermost first:
 *   rtnl            netdevs, blocks, devlink ports
 *   x->lock         an xfrm_state, taken by the core around state_delete
 *   pf->txlock      one packet at a time from sequence number to wire
 *   pf->lock        tables, counters of exclusion, SAs, policies, flow store
 *   sa->lock, log->lock, frags->lock: leaves
 * All spinlocks are taken with bottom halves off.
 */
#ifndef SIMNIC_H
#define SIMNIC_H

#include <linux/etherdevice.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/platform_device.h>
#include <linux/refcount.h>
#include <linux/rtnetlink.h>
#include <net/devlink.h>
#include <net/flow_offload.h>
#include <net/ip_tunnels.h>
#include <net/xfrm.h>

enum sim_dir { SIM_RX, SIM_TX, SIM_DIRS };

/*
 * Switchdev has one RX table for both families and one TX table; the legacy
 * NIC has an RX table per family (mlx5: ipsec_rx(), ipsec_tx()).
 */
enum sim_table_id { SIM_TBL_RX, SIM_TBL_RX6, SIM_TBL_TX, SIM_TBLS };

enum sim_counter {
	/* mlx5: mlx5e_ipsec_hw_stats_desc */
	CNT_RX_ESP, CNT_RX_ESP_BYTES, CNT_RX_BLOCKED, CNT_RX_BLOCKED_BYTES,
	CNT_RX_MISMATCH,
	CNT_TX_ESP, CNT_TX_ESP_BYTES, CNT_TX_BLOCKED, CNT_TX_BLOCKED_BYTES,
	/* mlx5: mlx5e_ipsec_sw_stats_desc; the tx ones never count here */
	CNT_RX_SP_ALLOC, CNT_RX_SADB_MISS,
	CNT_TX_BUNDLE, CNT_TX_NO_STATE, CNT_TX_NOT_IP, CNT_TX_TRAILER,
	/* what no card tells, but a test wants to know */
	CNT_TX_CLEAR_VXLAN, CNT_RX_CLEAR_VXLAN, CNT_TX_SA_MISS, CNT_RX_SA_MISS,
	CNT_RX_AUTH_FAIL, CNT_RX_REPLAY, CNT_RX_TRAILER, CNT_RX_DROP,
	CNT_TX_ERROR,
	CNT_FDB_ENCAP, CNT_FDB_DECAP, CNT_FDB_LOCAL, CNT_FDB_SLOW_PATH,
	CNT_FDB_NO_NEIGH,
	CNT_MAX
};

/* Kinds of log entries; the first one of each kind is kept for ever. */
enum sim_event {
	EV_RX_MADE, EV_TX_MADE, EV_RX_GONE, EV_TX_GONE, EV_FIRST_FLOW,
	EV_LAST_FLOW, EV_TX_CLEAR, EV_RX_CLEAR, EV_TO_WIRE, EV_ADMIN_DOWN,
	EV_NO_STATE, EV_NO_POLICY, EV_NO_FLOW, EV_NO_DEVLINK, EV_NO_FEATURE,
	EV_MAX
};

#define SIM_LOG_LEN 1024
#define SIM_LOG_TEXT 120

struct sim_log_entry {
	u64 seq;		/* from 1; 0: unused */
	ktime_t time;		/* CLOCK_MONOTONIC */
	char text[SIM_LOG_TEXT];
};

struct sim_log {
	spinlock_t lock;
	u64 seq;
	struct sim_log_entry first[EV_MAX];
	struct sim_log_entry *ring;
};

/* The contract of a kernel or a card. Read without a lock, set at any time. */
struct sim_knobs {
	bool strict_sa;		/* 6.18: each SA add looks for flows */
	bool after_decrypt;	/* 6.15: RX policies see decrypted packets only */
	bool no_priority;	/* a card without ignore_flow_level */
	bool no_fdb;		/* rules stay in hw, the stack forwards */
	bool lose_tx_sa;	/* a fault: no packet finds its outbound SA */
	u32 max_rx_sa;		/* 0: no limit */
	u32 fail_einval;	/* so many lock races to come */
};

#define SIM_FRAGS 64

struct sim_frag_id {
	struct in6_addr saddr, daddr;
	u32 id;
	u8 proto;
	unsigned long seen;	/* jiffies; 0: unused */
};

struct sim_frags {
	spinlock_t lock;
	unsigned int next;
	struct sim_frag_id id[SIM_FRAGS];
};

struct sim_table {
	u32 refs;
	bool allow_tunnel;	/* made while encap-mode was none */
};

#define SIM_HASH_BITS 14
#define SIM_HASH BIT(SIM_HASH_BITS)

/* Flow rules of one ingress port, by priority, best first. */
struct sim_fdb {
	struct list_head prios;
};

struct sim_pf {
	struct net_device *dev;
	struct net_device *lower;	/* the wire */
	int id;				/* of simnic.N; -1: none yet */
	struct list_head reps;		/* under rtnl */
	unsigned int next_rep;
	struct platform_device *pdev;
	struct devlink *devlink;
	struct devlink_port port;
	struct dentry *debugfs;
	struct delayed_work lifetime;
	bool indirect;			/* flow_indr_dev_register() done */
	bool dying;

	struct sim_knobs knobs;
	struct sim_log log;
	struct sim_frags frags[SIM_DIRS];
	atomic64_t cnt[CNT_MAX];
	spinlock_t txlock;

	spinlock_t lock;		/* all below */
	u16 esw_mode;
	u8 encap_mode;
	bool smfs;
	u32 num_flows;			/* mlx5: esw->user_count */
	u32 num_uplink_flows;		/* filters held by PF and vxlan devices */
	u32 num_block_mode;
	u32 num_block_encap;
	u32 num_block_tc;		/* IPsec objects that forbid PF filters */
	u32 num_block_ipsec;		/* PF filters that forbid IPsec objects */
	u32 num_objects;		/* mlx5: num_ipsec_offloads */
	u32 num_vf_ipsec;		/* mlx5: enabled_ipsec_vf_count */
	struct sim_table tbl[SIM_TBLS];
	u32 num_sa[SIM_DIRS];
	u32 num_policies[SIM_DIRS];
	struct hlist_head *sa[SIM_DIRS];
	struct list_head sa_all;
	struct hlist_head *policy[SIM_DIRS];
	struct hlist_head policy_wild[SIM_DIRS];
	u64 policy_seq;
	struct hlist_head *flow_hash;
	struct list_head flows;		/* read under RCU too */
	struct sim_fdb tunnel_fdb;
	struct sim_fdb uplink_fdb;
};

struct sim_rep {
	struct net_device *dev;
	struct net_device *vf;
	struct sim_pf *pf;
	struct list_head list;
	unsigned int num;
	struct devlink_port port;
	u8 vf_addr[ETH_ALEN];
	bool ipsec_packet, ipsec_crypto;
	struct sim_fdb fdb;
};

struct sim_vf {
	struct net_device *dev;
	struct sim_rep *rep;
};

/* Upper-layer selector: a zero port matches any (mlx5: struct upspec). */
struct sim_upspec {
	u8 proto;
	__be16 sport, sport_mask, dport, dport_mask;
};

struct sim_sa {
	struct hlist_node node;
	struct list_head all;
	struct xfrm_state *x;	/* NULL once the core has deleted it */
	struct sim_pf *pf;
	struct sim_table *tbl;
	refcount_t ref;
	enum sim_dir dir;
	struct crypto_aead *aead;
	u16 family;
	u8 mode;
	bool esn;
	bool strict;		/* holds a num_block_mode of its own */
	bool drop;		/* hard limit reached */
	bool limits;		/* some byte or packet limit is finite */
	xfrm_address_t saddr, daddr;
	__be32 spi;
	u32 reqid;
	struct sim_upspec up;
	atomic64_t pkts, bytes, auth_fail, replayed;

	spinlock_t lock;	/* all below */
	u64 seq;		/* TX: last used; RX: highest seen */
	u32 window;		/* 0: no replay protection */
	DECLARE_BITMAP(map, 256);
	u64 told_pkts, told_bytes, told_auth, told_replayed;
};

/*
 * What the steering parser of the device sees. Frames are linear with data at
 * the Ethernet header. One 802.1Q tag is skipped.
 */
struct sim_tuple {
	u16 family;
	u8 proto;
	unsigned int l3;	/* offset of the IP header */
	unsigned int l4;	/* offset of the upper header */
	unsigned int end;	/* end of the IP packet */
	xfrm_address_t saddr, daddr;
	__be16 sport, dport;
};

struct sim_verdict {
	bool block;
	u32 reqid;		/* 0: no SA wanted */
};

static inline void sim_count(struct sim_pf *pf, enum sim_counter c)
{
	atomic64_inc(&pf->cnt[c]);
}

static inline void sim_count_frame(struct sim_pf *pf, enum sim_counter c,
				   unsigned int bytes)
{
	atomic64_inc(&pf->cnt[c]);
	atomic64_add(bytes, &pf->cnt[c + 1]);
}

static inline bool sim_switchdev(const struct sim_pf *pf)
{
	return READ_ONCE(pf->esw_mode) == DEVLINK_ESWITCH_MODE_SWITCHDEV;
}

/* A text as NL_SET_ERR_MSG_MOD() would write it. */
#define SIM_MSG(text) KBUILD_MODNAME ": " text

/*
 * A reason for a refusal is either a text of the driver (SIM_MSG) for the
 * user, or words for the log only: then the user gets the driver's one text
 * for everything else.
 */
static inline bool sim_is_text(const char *why)
{
	return why && strstarts(why, SIM_MSG(""));
}

static inline void sim_tell(struct netlink_ext_ack *extack, const char *why,
			    const char *otherwise)
{
	if (extack)
		extack->_msg = sim_is_text(why) ? why : otherwise;
}

/* A device that stays in its namespace. */
static inline void sim_fix_netns(struct net_device *dev)
{
#ifdef SIM_NETNS_IMMUTABLE
	dev->netns_immutable = true;
#else
	dev->netns_local = true;
#endif
}

/* main.c */
extern struct sim_knobs sim_defaults;
extern bool sim_default_legacy;
bool sim_default_smfs(void);

/* pf.c */
extern struct rtnl_link_ops sim_pf_link;
bool sim_is_pf(const struct net_device *dev);
void sim_pf_dellink(struct net_device *dev, struct list_head *head);
struct sim_pf *sim_pf_above(struct net_device *lower);

/* rep.c */
extern struct rtnl_link_ops sim_rep_link, sim_vf_link;
bool sim_is_rep(const struct net_device *dev);
void sim_rep_dellink(struct net_device *dev, struct list_head *head);
void sim_dev_setup(struct net_device *dev);
struct sim_pf *sim_dev_pf(const struct net_device *dev);
void sim_rep_deliver(struct sim_rep *rep, struct sk_buff *skb);

/* route.c */
int sim_resolve(struct sim_pf *pf, int family, xfrm_address_t *saddr,
		const xfrm_address_t *daddr, u8 *dmac, int *ttl, bool probe);

/* wire.c */
void sim_wire_tx(struct sim_pf *pf, struct sk_buff *skb, bool ipsec);
rx_handler_result_t sim_wire_rx(struct sk_buff **pskb);

/* clear.c */
bool sim_is_clear_vxlan(struct sim_frags *frags, const struct sk_buff *skb);

/* parse.c */
bool sim_parse(const struct sk_buff *skb, struct sim_tuple *t);
bool sim_upspec_match(const struct sim_upspec *up, const struct sim_tuple *t);
bool sim_addr_equal(const xfrm_address_t *a, const xfrm_address_t *b,
		    u16 family);

/* tables.c */
int sim_esw_try_lock(struct sim_pf *pf);
struct sim_table *sim_table_get(struct sim_pf *pf, enum sim_dir dir,
				u16 family);
void sim_table_put(struct sim_pf *pf, struct sim_table *tbl);
int sim_object_get(struct sim_pf *pf, const char **why);
void sim_object_put(struct sim_pf *pf);
int sim_block_tc(struct sim_pf *pf, const char **why);
void sim_unblock_tc(struct sim_pf *pf);
const char *sim_busy_reason(int err);

/* validate.c */
const char *sim_state_fault(const struct sim_pf *pf,
			    const struct xfrm_state *x);
const char *sim_policy_fault(const struct sim_pf *pf,
			     const struct xfrm_policy *p);

/* sa.c */
extern const struct xfrmdev_ops sim_xfrmdev_ops;
struct sim_sa *sim_sa_find_tx(struct sim_pf *pf, u32 reqid,
			      const struct sim_tuple *t);
struct sim_sa *sim_sa_find_rx(struct sim_pf *pf, __be32 spi,
			      const struct sim_tuple *t);
struct xfrm_state *sim_sa_hold_state(struct sim_sa *sa);
void sim_sa_put(struct sim_sa *sa);
void sim_sa_update_stats(struct xfrm_state *x);

/* policy.c */
int sim_policy_add(struct xfrm_policy *p, struct netlink_ext_ack *extack);
void sim_policy_delete(struct xfrm_policy *p);
void sim_policy_free(struct xfrm_policy *p);
struct sim_verdict sim_policy_lookup(struct sim_pf *pf, enum sim_dir dir,
				     const struct sim_tuple *t);

/* lifetime.c */
void sim_lifetime_work(struct work_struct *work);
void sim_sa_probe(struct sim_sa *sa);

/* steer.c */
struct sk_buff *sim_ipsec_tx(struct sim_pf *pf, struct sk_buff *skb);
struct sk_buff *sim_ipsec_rx(struct sim_pf *pf, struct sk_buff *skb);

/* esp.c */
struct sk_buff *sim_esp_encrypt(struct sim_sa *sa, struct sk_buff *skb,
				const struct sim_tuple *t);
struct sk_buff *sim_esp_decrypt(struct sim_sa *sa, struct sk_buff *skb,
				const struct sim_tuple *t);

/* replay.c */
u64 sim_replay_seq(const struct sim_sa *sa, u32 low);
bool sim_replay_old(const struct sim_sa *sa, u64 seq);
void sim_replay_advance(struct sim_sa *sa, u64 seq);

/* flow.c */
struct sim_flow;
struct seq_file;
int sim_flow_command(struct sim_pf *pf, struct net_device *holder,
		     struct flow_cls_offload *cls);
void sim_flows_to_wire(struct sim_pf *pf);
void sim_flows_forget(struct sim_pf *pf, struct net_device *dev);
void sim_flows_show(struct seq_file *s, struct sim_pf *pf);

/* bind.c */
int sim_setup_tc(struct net_device *dev, enum tc_setup_type type, void *data);
int sim_indirect_bind(struct net_device *dev, struct Qdisc *sch, void *cb_priv,
		      enum tc_setup_type type, void *type_data, void *data,
		      void (*cleanup)(struct flow_block_cb *block_cb));
void sim_indirect_release(void *priv);

/* forward.c */
void sim_forward_init(void);
bool sim_forward_vf(struct sim_rep *rep, struct sk_buff *skb);
bool sim_forward_wire(struct sim_pf *pf, struct sk_buff *skb);

/* vxlan.c */
bool sim_vxlan_send(struct sim_pf *pf, struct sk_buff *skb,
		    const struct ip_tunnel_key *key, bool v6, bool ipsec);

/* devlink.c, function.c */
int sim_devlink_init(struct sim_pf *pf);
void sim_devlink_fini(struct sim_pf *pf);
int sim_function_init(struct sim_rep *rep);
void sim_function_fini(struct sim_rep *rep);

/* ethtool.c */
extern const struct ethtool_ops sim_pf_ethtool, sim_rep_ethtool;
void sim_counters_show(struct seq_file *s, struct sim_pf *pf);

/* debugfs.c */
void sim_debugfs_init(void);
void sim_debugfs_exit(void);
void sim_debugfs_add(struct sim_pf *pf);

/* log.c */
int sim_log_init(struct sim_log *log);
void sim_log_fini(struct sim_log *log);
__printf(3, 4)
void sim_log(struct sim_pf *pf, enum sim_event kind, const char *fmt, ...);
void sim_log_refusal(struct sim_pf *pf, enum sim_event kind, const char *what,
		     int err, const char *why);
void sim_log_show(struct seq_file *s, struct sim_log *log);

#endif
