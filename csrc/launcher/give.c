/* SPDX-License-Identifier: Apache-2.0 */
#include "give.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "journal.h"
#include "nvc_apply.h"
#include "nvc_cleanup.h"
#include "nvc_find.h"
#include "say.h"

#define TIMEOUT_MS 30000

bool container_find(struct container *container)
{
	char base[64];
	struct nvc_finder finder;
	struct nvc_found found;
	struct nvc_error err;
	int len;

	(void)snprintf(base, sizeof base, "/proc/%d/root", container->pid);
	if (strcmp(container->rootfs, "/") == 0 || nvc_finder_open(&finder, base, &err) < 0)
		return false;
	bool is_there = nvc_find(&finder, container->rootfs, &found, &err) == 1;
	nvc_finder_close(&finder);
	len = snprintf(container->seen, sizeof container->seen, "%s%s", base,
	               is_there ? found.path : "");
	return is_there && (size_t)len < sizeof container->seen;
}

static void say_warnings(const char *who, char *lines)
{
	for (char *line; (line = strsep(&lines, "\n")) != NULL;) {
		if (line[0] != '\0')
			say(who, "warning: %s", line);
	}
}

/* Whoever is killed meanwhile leaves the undoing to the worker. */
static bool apply(const struct nvc_target *target, struct nvc_json plan, const char *who)
{
	struct nvc_journal_file_at at;
	struct nvc_report report = {.left = {.code = NVC_OK}};
	struct journal journal;
	struct nvc_error err;
	size_t len = (size_t)(plan.end - plan.at);
	int result = -1;

	if (!journal_open(target->pid, target->rootfs, &journal))
		return false;
	at = (struct nvc_journal_file_at){.fd = journal.fd,
	                                  .dir_fd = journal.name[0] == '\0' ? -1 : journal.dir_fd,
	                                  .name = journal.name};
	nvc_autofree uint8_t *bytes = malloc(len + 1); /* aligned */
	if (bytes != NULL) {
		memcpy(bytes, plan.at, len);
		struct nvc_job *job = nvc_apply_start(bytes, len, target, &at, &err);
		do
			result = job == NULL ? -1 : nvc_apply_wait(job, &report, &err);
		while (result == NVC_INTERRUPTED);
		nvc_job_free(job);
	}
	/* What is left needs the journal, for another try. */
	journal_close(&journal, result == 0 || report.left.code != NVC_OK);
	if (result == 0)
		say_warnings(who, report.warnings);
	return result == 0;
}

bool give_kept(const struct container *container, struct nvc_json result, const char *who)
{
	struct nvc_target target = {
	    .pid = container->pid, .rootfs = container->rootfs, .timeout_ms = TIMEOUT_MS};
	struct nvc_strings ldconfig;
	struct nvc_json plan;

	if (!kept_strings(&result, &ldconfig) || !kept_section(&result, &plan) ||
	    result.at != result.end)
		return false;
	target.ldconfig = ldconfig.len > 0 ? ldconfig.at : NULL;
	return plan.at == plan.end || apply(&target, plan, who);
}
