// SPDX-License-Identifier: GPL-2.0
/*
 * What the device takes (mlx5: mlx5e_xfrm_validate_state(),
 * mlx5e_xfrm_validate_policy()). The texts are the driver's own, since user
 * space tells the reasons apart by them; so is the order of the checks.
 */
#include <linux/pfkeyv2.h>
#include "simnic.h"

/* mlx5_ipsec_device_caps(): DMFS, or SMFS in a legacy eswitch */
static bool sim_packet_cap(const struct sim_pf *pf)
{
	return !READ_ONCE(pf->smfs) || !sim_switchdev(pf);
}

static bool sim_upper_proto_ok(u8 proto)
{
	return !proto || proto == IPPROTO_UDP || proto == IPPROTO_TCP;
}

static const char *sim_algo_fault(const struct xfrm_state *x)
{
	if (x->props.aalgo != SADB_AALG_NONE)
		return SIM_MSG("Cannot offload authenticated xfrm states");
	if (x->props.ealgo != SADB_X_EALG_AES_GCM_ICV16)
		return SIM_MSG("Only AES-GCM-ICV16 xfrm state may be offloaded");
	if (x->props.calgo != SADB_X_CALG_NONE)
		return SIM_MSG("Cannot offload compressed xfrm states");
	if (x->props.family != AF_INET && x->props.family != AF_INET6)
		return SIM_MSG("Only IPv4/6 xfrm states may be offloaded");
	if (x->id.proto != IPPROTO_ESP)
		return SIM_MSG("Only ESP xfrm state may be offloaded");
	if (x->encap)		/* no MLX5_IPSEC_CAP_ESPINUDP */
		return SIM_MSG("Encapsulation is not supported");
	return NULL;
}

static const char *sim_aead_fault(const struct xfrm_state *x)
{
	if (!x->aead)
		return SIM_MSG("Cannot offload xfrm states without aead");
	if (x->aead->alg_icv_len != 128)
		return SIM_MSG("Cannot offload xfrm states with AEAD ICV length other than 128bit");
	if (x->aead->alg_key_len != 128 + 32 && x->aead->alg_key_len != 256 + 32)
		return SIM_MSG("Cannot offload xfrm states with AEAD key length other than 128/256 bit");
	if (x->tfcpad)
		return SIM_MSG("Cannot offload xfrm states with tfc padding");
	if (!x->geniv)
		return SIM_MSG("Cannot offload xfrm states without geniv");
	if (strcmp(x->geniv, "seqiv"))
		return SIM_MSG("Cannot offload xfrm states with geniv other than seqiv");
	return NULL;
}

static bool sim_window_ok(const struct xfrm_state *x)
{
	if (!x->replay_esn || x->xso.dir != XFRM_DEV_OFFLOAD_IN)
		return true;
	switch (x->replay_esn->replay_window) {
	case 32:
	case 64:
	case 128:
	case 256:
		return true;
	}
	return false;
}

static const char *sim_limit_fault(const struct xfrm_lifetime_cfg *lft)
{
	if (lft->soft_byte_limit >= lft->hard_byte_limit &&
	    lft->hard_byte_limit != XFRM_INF)
		return SIM_MSG("Hard byte limit must be greater than soft one");
	if (!lft->soft_byte_limit || !lft->hard_byte_limit)
		return SIM_MSG("Soft/hard byte limits can't be 0");
	if (lft->soft_packet_limit >= lft->hard_packet_limit &&
	    lft->hard_packet_limit != XFRM_INF)
		return SIM_MSG("Hard packet limit must be greater than soft one");
	if (!lft->soft_packet_limit || !lft->hard_packet_limit)
		return SIM_MSG("Soft/hard packet limits can't be 0");
	return NULL;
}

static const char *sim_packet_fault(const struct sim_pf *pf,
				    const struct xfrm_state *x)
{
	if (!sim_packet_cap(pf))
		return SIM_MSG("Packet offload is not supported");
	if (!sim_window_ok(x))
		return SIM_MSG("Unsupported replay window size");
	if (!x->props.reqid)
		return SIM_MSG("Cannot offload without reqid");
	return sim_limit_fault(&x->lft);
}

static const char *sim_mode_fault(const struct sim_pf *pf,
				  const struct xfrm_state *x)
{
	if (!sim_upper_proto_ok(x->sel.proto))
		return SIM_MSG("Device does not support upper protocol other than TCP/UDP");
	if (x->props.mode != XFRM_MODE_TRANSPORT &&
	    x->props.mode != XFRM_MODE_TUNNEL)
		return SIM_MSG("Only transport and tunnel xfrm states may be offloaded");
	if (x->xso.type == XFRM_DEV_OFFLOAD_CRYPTO)	/* no such cap here */
		return SIM_MSG("Crypto offload is not supported");
	if (x->xso.type != XFRM_DEV_OFFLOAD_PACKET)
		return SIM_MSG("Unsupported xfrm offload type");
	return sim_packet_fault(pf, x);
}

/* NULL: the state may be offloaded */
const char *sim_state_fault(const struct sim_pf *pf,
			    const struct xfrm_state *x)
{
	return sim_algo_fault(x) ?: sim_aead_fault(x) ?: sim_mode_fault(pf, x);
}

static const char *sim_priority_fault(const struct sim_pf *pf, u32 priority)
{
	if (!priority)
		return NULL;
	if (READ_ONCE(pf->knobs.no_priority))	/* no MLX5_IPSEC_CAP_PRIO */
		return SIM_MSG("Device does not support policy priority");
	if (priority == U32_MAX)
		return SIM_MSG("Device does not support requested policy priority");
	return NULL;
}

static const char *sim_selector_fault(const struct xfrm_policy *p)
{
	const struct xfrm_selector *sel = &p->selector;

	if (!p->xfrm_vec[0].reqid && !sel->proto &&
	    ipv6_addr_any(&sel->saddr.in6) && ipv6_addr_any(&sel->daddr.in6))
		return SIM_MSG("Unsupported policy with reqid 0 without at least one of upper protocol or ip addr(s) different than 0");
	if (p->xdo.type != XFRM_DEV_OFFLOAD_PACKET)
		return SIM_MSG("Unsupported xfrm offload type");
	if (!sim_upper_proto_ok(sel->proto))
		return SIM_MSG("Device does not support upper protocol other than TCP/UDP");
	return NULL;
}

/* NULL: the policy may be offloaded */
const char *sim_policy_fault(const struct sim_pf *pf,
			     const struct xfrm_policy *p)
{
	const char *fault;

	if (p->type != XFRM_POLICY_TYPE_MAIN)
		return SIM_MSG("Cannot offload non-main policy types");
	if (p->xfrm_nr > 1)
		return SIM_MSG("Cannot offload more than one template");
	if (p->xdo.dir != XFRM_DEV_OFFLOAD_IN &&
	    p->xdo.dir != XFRM_DEV_OFFLOAD_OUT)
		return SIM_MSG("Cannot offload forward policy");
	fault = sim_selector_fault(p) ?: sim_priority_fault(pf, p->priority);
	if (!fault && !sim_packet_cap(pf))
		fault = SIM_MSG("Packet offload is not supported");
	return fault;
}
