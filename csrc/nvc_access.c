/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_access.h"

#include <errno.h>
#include <stdbool.h>

#include "nvc_devlist.h"
#include "nvc_devprog.h"
#include "nvc_steps.h"

static bool is_forbidden(const struct nvc_error *err)
{
	return err->sys_errno == EPERM || err->sys_errno == EACCES;
}

static int allow_v1(struct nvc_ops *ops, const struct nvc_device_rule *rule, struct nvc_error *err)
{
	if (ops->devlist.allow_fd < 0 && nvc_devlist_open(ops->cgroup, &ops->devlist, err) < 0)
		return -1;
	uint32_t missing = nvc_devlist_missing(&ops->devlist, rule);
	if (missing == 0)
		return 0;
	struct nvc_record *record = nvc_step_begin(ops, NVC_STEP_DEVLIST, "/", NULL, NULL, err);
	if (record == NULL)
		return -1;
	record->major = rule->major;
	record->minor = rule->minor;
	record->access = missing;
	if (nvc_devlist_allow(ops->cgroup, &ops->devlist, rule, err) < 0) {
		if (is_forbidden(err)) /* then nothing happened that anybody could take back */
			nvc_journal_mark(record, NVC_RECORD_UNDONE);
		return -1;
	}
	nvc_journal_mark(record, NVC_RECORD_DONE);
	return 0;
}

/* Version 1 has no ranges. */
static int allow_each_v1(struct nvc_ops *ops, const struct nvc_device_rule *rule,
                         struct nvc_error *err)
{
	for (uint32_t i = 0; i < rule->count; i++) {
		struct nvc_device_rule one = {rule->major, rule->minor + i, 1, rule->access};
		if (allow_v1(ops, &one, err) < 0)
			return -1;
	}
	return 0;
}

static int allow_v2(struct nvc_ops *ops, const struct nvc_device_rule *rule, struct nvc_error *err)
{
	uint32_t own, all;
	bool tried = false;

	if (nvc_devprog_count(ops->cgroup, &own, &all, err) < 0)
		return -1;
	/* A cgroup that is not the container's own: a program would confine us, too. */
	if (own == 0 && ops->cgroup->is_own)
		return 0;
	if (own == 0 && all > 0)
		return nvc_fail(err, NVC_ECGROUP, "device rule", ops->cgroup->v2_path,
		                "the device program that confines the container is that of a "
		                "cgroup above: name a process that is directly in the container's "
		                "cgroup, or let the engine list the devices and use --no-cgroups");
	/* Version 1 confines the container, and version 2 does not: leave it so. */
	if (own == 0 && ops->cgroup->v1_fd >= 0)
		return 0;
	struct nvc_record *record = nvc_step_begin(ops, NVC_STEP_DEVPROG, "/", NULL, NULL, err);
	if (record == NULL)
		return -1;
	if (nvc_devprog_new_tag(&record->tag, err) < 0 ||
	    nvc_devprog_allow(ops->cgroup, rule, record->tag, &tried, err) < 0) {
		if (!tried) /* then there is nothing to take back, which would fail likewise */
			nvc_journal_mark(record, NVC_RECORD_UNDONE);
		return -1;
	}
	nvc_journal_mark(record, NVC_RECORD_DONE);
	return 0;
}

int nvc_access_allow(struct nvc_ops *ops, const struct nvc_op *op, struct nvc_error *err)
{
	struct nvc_device_rule rule = {op->major, op->minor, op->count,
	                               op->flags & (NVC_OP_READ | NVC_OP_WRITE | NVC_OP_MKNOD)};

	if ((ops->cgroup->v1_fd < 0 || allow_each_v1(ops, &rule, err) == 0) &&
	    (ops->cgroup->v2_fd < 0 || allow_v2(ops, &rule, err) == 0))
		return 0;
	if (is_forbidden(err))
		nvc_copy(err->msg, sizeof err->msg,
		         "device rules cannot be changed from here: let the engine list the "
		         "devices and use --no-cgroups");
	return -1;
}
