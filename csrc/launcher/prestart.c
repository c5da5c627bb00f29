/* SPDX-License-Identifier: Apache-2.0 */
#include "prestart.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front.h"
#include "journal.h"
#include "kept.h"
#include "nvc_apply.h"
#include "nvc_cleanup.h"
#include "nvc_find.h"
#include "say.h"
#include "state.h"

#define CONFIG       "/etc/nvidia-container-runtime/config.toml"
#define DOCUMENT_MAX (16u << 20)
#define TIMEOUT_MS   30000

/* A container that a runtime is about to start. */
struct starting {
	struct state state;
	char rootfs[PATH_MAX]; /* on the host, and so in the container's mount namespace still */
	char seen[PATH_MAX];   /* there, by way of its process */
};

/* Join a directory and a path below it, unless that is absolute, and follow it to its end. */
static bool follow(struct nvc_json directory, struct nvc_json path, char out[PATH_MAX])
{
	char joined[PATH_MAX];
	bool is_absolute = *path.at == '/';
	int len = snprintf(joined, sizeof joined, "%.*s%s%.*s",
	                   is_absolute ? 0 : (int)(directory.end - directory.at), directory.at,
	                   is_absolute ? "" : "/", (int)(path.end - path.at), path.at);

	return len > 0 && (size_t)len < sizeof joined && realpath(joined, out) != NULL;
}

/* Find the root by way of the process, as inspect_container does. */
static bool find_seen(struct starting *starting)
{
	char base[64];
	struct nvc_finder finder;
	struct nvc_found found;
	struct nvc_error err;
	int len;

	(void)snprintf(base, sizeof base, "/proc/%d/root", starting->state.pid);
	if (strcmp(starting->rootfs, "/") == 0 || nvc_finder_open(&finder, base, &err) < 0)
		return false;
	bool is_there = nvc_find(&finder, starting->rootfs, &found, &err) == 1;
	nvc_finder_close(&finder);
	len = snprintf(starting->seen, sizeof starting->seen, "%s%s", base,
	               is_there ? found.path : "");
	return is_there && (size_t)len < sizeof starting->seen;
}

/* Whether it has the members that Python insists on. */
static bool is_complete(const struct nvc_document *document)
{
	return document->version.at != NULL && document->version.end - document->version.at > 2 &&
	       document->process.at != NULL;
}

static bool read_document(const struct state *state, struct file *file,
                          struct nvc_document *document)
{
	char path[PATH_MAX];
	int len;

	if (state->bundle.at == NULL || *state->bundle.at != '/' ||
	    state->bundle.end - state->bundle.at < 2)
		return false;
	len = snprintf(path, sizeof path, "%.*s/config.json",
	               (int)(state->bundle.end - state->bundle.at), state->bundle.at);
	return len > 0 && (size_t)len < sizeof path &&
	       file_read(AT_FDCWD, path, 0, DOCUMENT_MAX, file) == 0 &&
	       nvc_document_read(file->data, file->len, document) && is_complete(document);
}

static void say_warnings(char *lines)
{
	for (char *line; (line = strsep(&lines, "\n")) != NULL;) {
		if (line[0] != '\0')
			say("nvidia-container-cli", "warning: %s", line);
	}
}

/* Whoever is killed meanwhile leaves the undoing to the worker. */
static bool apply(const struct starting *starting, struct nvc_json plan, const char *ldconfig)
{
	struct nvc_target target = {.pid = starting->state.pid,
	                            .rootfs = starting->rootfs,
	                            .ldconfig = ldconfig,
	                            .timeout_ms = TIMEOUT_MS};
	struct nvc_journal_file_at at;
	struct nvc_report report = {.left = {.code = NVC_OK}};
	struct journal journal;
	struct nvc_error err;
	int result = -1;

	if (!journal_open(target.pid, target.rootfs, &journal))
		return false;
	at = (struct nvc_journal_file_at){
	    .fd = journal.fd, .dir_fd = journal.dir_fd, .name = journal.name};
	nvc_autofree uint8_t *bytes = malloc((size_t)(plan.end - plan.at) + 1); /* aligned */
	if (bytes != NULL) {
		memcpy(bytes, plan.at, (size_t)(plan.end - plan.at));
		struct nvc_job *job =
		    nvc_apply_start(bytes, (size_t)(plan.end - plan.at), &target, &at, &err);
		do
			result = job == NULL ? -1 : nvc_apply_wait(job, &report, &err);
		while (result == NVC_INTERRUPTED);
		nvc_job_free(job);
	}
	/* What is left needs the journal, for another try. */
	journal_close(&journal, result == 0 || report.left.code != NVC_OK);
	if (result == 0)
		say_warnings(report.warnings);
	return result == 0;
}

static bool give(const struct self *self, const struct front *front,
                 const struct nvc_document *document, struct starting *starting)
{
	__attribute__((cleanup(nvc_bytes_free))) struct nvc_bytes key = {.data = NULL};
	auto_file struct file file = {.data = NULL};
	struct nvc_strings ldconfig;
	struct nvc_json plan;
	struct kept kept;

	if (!follow(starting->state.bundle, document->path, starting->rootfs) ||
	    !find_seen(starting) || !kept_key(self, front, document, starting->seen, &key) ||
	    !kept_load(NVC_VERSION, &key, &file, &kept))
		return false;
	if (!kept_strings(&kept.result, &ldconfig) || !kept_section(&kept.result, &plan) ||
	    kept.result.at != kept.result.end)
		return false;
	return apply(starting, plan, ldconfig.len > 0 ? ldconfig.at : NULL);
}

bool prestart_kept(const struct self *self, const struct file *state)
{
	auto_file struct file document_file = {.data = NULL}, front_file = {.data = NULL};
	const char *config = getenv("NVIDIA_CTK_CONFIG_FILE_PATH"), *why;
	struct starting starting;
	struct nvc_document document;
	struct front front;

	if (config == NULL || config[0] == '\0')
		config = CONFIG;
	return geteuid() == 0 && kept_in_first_user_namespace() &&
	       state_read(state->data, state->len, &starting.state, &why) &&
	       front_load(NVC_VERSION, config, &front_file, &front) &&
	       read_document(&starting.state, &document_file, &document) &&
	       give(self, &front, &document, &starting);
}
