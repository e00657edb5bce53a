// SPDX-License-Identifier: GPL-2.0
/*
 * The devlink instance platform/simnic.N: eswitch mode and encap-mode, and
 * flow_steering_mode. The texts are mlx5's. A mode change here takes no
 * representor away, as it would on the card.
 */
#include "simnic.h"

struct sim_devlink {
	struct sim_pf *pf;
};

static struct sim_pf *sim_devlink_pf(struct devlink *devlink)
{
	struct sim_devlink *priv = devlink_priv(devlink);

	return priv->pf;
}

static int sim_mode_get(struct devlink *devlink, u16 *mode)
{
	*mode = READ_ONCE(sim_devlink_pf(devlink)->esw_mode);
	return 0;
}

/*
 * mlx5_devlink_eswitch_mode_set(): with flows it is busy before it looks at
 * anything else, even at whether the mode would change at all.
 */
static int sim_mode_change(struct sim_pf *pf, u16 mode, const char **why)
{
	int err = sim_esw_try_lock(pf);

	if (err) {
		*why = SIM_MSG("Can't change mode, E-Switch is busy");
		return err;
	}
	if (mode == pf->esw_mode)
		return 0;
	if (pf->num_block_mode) {
		*why = SIM_MSG("Can't change eswitch mode when IPsec SA and/or policies are configured");
		return -EOPNOTSUPP;
	}
	WRITE_ONCE(pf->esw_mode, mode);
	return 0;
}

static int sim_mode_set(struct devlink *devlink, u16 mode,
			struct netlink_ext_ack *extack)
{
	struct sim_pf *pf = sim_devlink_pf(devlink);
	const char *why = NULL;
	int err;

	if (mode != DEVLINK_ESWITCH_MODE_LEGACY &&
	    mode != DEVLINK_ESWITCH_MODE_SWITCHDEV)
		return -EINVAL;
	spin_lock_bh(&pf->lock);
	err = sim_mode_change(pf, mode, &why);
	spin_unlock_bh(&pf->lock);
	if (err) {
		sim_tell(extack, why, NULL);
		sim_log_refusal(pf, EV_NO_DEVLINK, "eswitch mode", err, why);
	}
	return err;
}

static int sim_encap_get(struct devlink *devlink,
			 enum devlink_eswitch_encap_mode *mode)
{
	*mode = READ_ONCE(sim_devlink_pf(devlink)->encap_mode);
	return 0;
}

/* mlx5_devlink_eswitch_encap_mode_set() */
static int sim_encap_change(struct sim_pf *pf, u8 mode, const char **why)
{
	if (sim_switchdev(pf) && mode != pf->encap_mode) {
		if (pf->num_flows) {
			*why = SIM_MSG("Can't set encapsulation when flows are configured");
			return -EOPNOTSUPP;
		}
		if (pf->num_block_encap) {
			*why = SIM_MSG("Can't set encapsulation when IPsec SA and/or policies are configured");
			return -EOPNOTSUPP;
		}
	}
	pf->encap_mode = mode;
	return 0;
}

static int sim_encap_set(struct devlink *devlink,
			 enum devlink_eswitch_encap_mode mode,
			 struct netlink_ext_ack *extack)
{
	struct sim_pf *pf = sim_devlink_pf(devlink);
	const char *why = NULL;
	int err;

	spin_lock_bh(&pf->lock);
	err = sim_encap_change(pf, mode, &why);
	spin_unlock_bh(&pf->lock);
	if (err) {
		sim_tell(extack, why, NULL);
		sim_log_refusal(pf, EV_NO_DEVLINK, "encap mode", err, why);
	}
	return err;
}

/* The core calls both without a look when the namespace goes away. */
static int sim_reload_down(struct devlink *devlink, bool netns_change,
			   enum devlink_reload_action action,
			   enum devlink_reload_limit limit,
			   struct netlink_ext_ack *extack)
{
	return -EOPNOTSUPP;
}

static int sim_reload_up(struct devlink *devlink,
			 enum devlink_reload_action action,
			 enum devlink_reload_limit limit, u32 *performed,
			 struct netlink_ext_ack *extack)
{
	*performed = BIT(action);
	return 0;
}

static const struct devlink_ops sim_devlink_ops = {
	.reload_actions = BIT(DEVLINK_RELOAD_ACTION_DRIVER_REINIT),
	.reload_down = sim_reload_down,
	.reload_up = sim_reload_up,
	.eswitch_mode_get = sim_mode_get,
	.eswitch_mode_set = sim_mode_set,
	.eswitch_encap_mode_get = sim_encap_get,
	.eswitch_encap_mode_set = sim_encap_set,
};

static int sim_steering_get(struct devlink *devlink, u32 id,
			    struct devlink_param_gset_ctx *ctx)
{
	bool smfs = READ_ONCE(sim_devlink_pf(devlink)->smfs);

	strscpy(ctx->val.vstr, smfs ? "smfs" : "dmfs", sizeof(ctx->val.vstr));
	return 0;
}

static int sim_steering_set(struct devlink *devlink, u32 id,
			    struct devlink_param_gset_ctx *ctx,
			    struct netlink_ext_ack *extack)
{
	WRITE_ONCE(sim_devlink_pf(devlink)->smfs,
		   !strcmp(ctx->val.vstr, "smfs"));
	return 0;
}

/* mlx5_fs_mode_validate() */
static int sim_steering_fault(struct sim_pf *pf, const char *value,
			      const char **why)
{
	if (!strcmp(value, "dmfs"))
		return 0;
	if (strcmp(value, "smfs")) {
		*why = SIM_MSG("Bad parameter: supported values are [\"dmfs\", \"smfs\"]");
		return -EINVAL;
	}
	if (sim_switchdev(pf)) {
		*why = SIM_MSG("Software managed steering is not supported when eswitch offloads enabled.");
		return -EOPNOTSUPP;
	}
	return 0;
}

static int sim_steering_validate(struct devlink *devlink, u32 id,
				 union devlink_param_value val,
				 struct netlink_ext_ack *extack)
{
	struct sim_pf *pf = sim_devlink_pf(devlink);
	const char *why = NULL;
	int err = sim_steering_fault(pf, val.vstr, &why);

	if (err) {
		sim_tell(extack, why, NULL);
		sim_log_refusal(pf, EV_NO_DEVLINK, "steering mode", err, why);
	}
	return err;
}

static const struct devlink_param sim_params[] = {
	DEVLINK_PARAM_DRIVER(DEVLINK_PARAM_GENERIC_ID_MAX + 1,
			     "flow_steering_mode", DEVLINK_PARAM_TYPE_STRING,
			     BIT(DEVLINK_PARAM_CMODE_RUNTIME),
			     sim_steering_get, sim_steering_set,
			     sim_steering_validate),
};

static int sim_devlink_alloc(struct sim_pf *pf)
{
	struct sim_devlink *priv;

	pf->devlink = devlink_alloc_ns(&sim_devlink_ops, sizeof(*priv),
				       dev_net(pf->dev), &pf->pdev->dev);
	if (!pf->devlink)
		return -ENOMEM;
	priv = devlink_priv(pf->devlink);
	priv->pf = pf;
	return 0;
}

static int sim_port_register(struct sim_pf *pf)
{
	struct devlink_port_attrs attrs = {
		.flavour = DEVLINK_PORT_FLAVOUR_PHYSICAL,
		.phys.port_number = pf->id,
		.switch_id.id_len = ETH_ALEN,
	};

	ether_addr_copy(attrs.switch_id.id, pf->dev->perm_addr);
	devlink_port_attrs_set(&pf->port, &attrs);
	return devl_port_register(pf->devlink, &pf->port, 65535);
}

static int sim_devlink_register(struct sim_pf *pf)
{
	int err;

	err = devl_params_register(pf->devlink, sim_params,
				   ARRAY_SIZE(sim_params));
	if (err)
		return err;
	err = sim_port_register(pf);
	if (err) {
		devl_params_unregister(pf->devlink, sim_params,
				       ARRAY_SIZE(sim_params));
		return err;
	}
	devl_register(pf->devlink);
	return 0;
}

int sim_devlink_init(struct sim_pf *pf)
{
	int err;

	pf->pdev = platform_device_register_simple(KBUILD_MODNAME, pf->id,
						   NULL, 0);
	if (IS_ERR(pf->pdev))
		return PTR_ERR(pf->pdev);
	err = sim_devlink_alloc(pf);
	if (err)
		goto pdev;
	devl_lock(pf->devlink);
	err = sim_devlink_register(pf);
	devl_unlock(pf->devlink);
	if (!err)
		return 0;
	devlink_free(pf->devlink);
pdev:
	platform_device_unregister(pf->pdev);
	return err;
}

void sim_devlink_fini(struct sim_pf *pf)
{
	devl_lock(pf->devlink);
	devl_unregister(pf->devlink);
	devl_port_unregister(&pf->port);
	devl_params_unregister(pf->devlink, sim_params,
			       ARRAY_SIZE(sim_params));
	devl_unlock(pf->devlink);
	devlink_free(pf->devlink);
	platform_device_unregister(pf->pdev);
}
