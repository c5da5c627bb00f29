/* SPDX-License-Identifier: Apache-2.0 */
#include "prestart.h"

#include <stdlib.h>
#include <unistd.h>

#include "bundle.h"
#include "front.h"
#include "give.h"
#include "kept.h"
#include "nvc_cleanup.h"
#include "state.h"

#define CONFIG "/etc/nvidia-container-runtime/config.toml"

/* Whether it has the members that Python insists on. */
static bool is_complete(const struct nvc_document *document)
{
	return document->version.at != NULL && document->version.end - document->version.at > 2 &&
	       document->process.at != NULL;
}

static bool give(const struct self *self, const struct front *front,
                 const struct nvc_document *document, const struct state *state)
{
	__attribute__((cleanup(nvc_bytes_free))) struct nvc_bytes key = {.data = NULL};
	auto_file struct file file = {.data = NULL};
	char rootfs[PATH_MAX];
	/* The same on the host, and so in the container's mount namespace still. */
	struct container container = {.pid = state->pid, .rootfs = rootfs};
	struct kept kept;

	return bundle_follow(state, document->path, rootfs) && container_find(&container) &&
	       kept_key(self, front, document, container.seen, &key) &&
	       kept_load(NVC_VERSION, &key, &file, &kept) &&
	       give_kept(&container, kept.result, "nvidia-container-cli");
}

bool prestart_kept(const struct self *self, const struct file *state)
{
	auto_file struct file document_file = {.data = NULL}, front_file = {.data = NULL};
	const char *config = getenv("NVIDIA_CTK_CONFIG_FILE_PATH");
	struct state named;
	struct nvc_document document;
	struct front front;

	if (config == NULL || config[0] == '\0')
		config = CONFIG;
	return geteuid() == 0 && kept_in_first_user_namespace() &&
	       state_read(state->data, state->len, &named) && named.pid > 0 &&
	       front_load(NVC_VERSION, config, &front_file, &front) &&
	       bundle_read(&named, &document_file, &document) && is_complete(&document) &&
	       give(self, &front, &document, &named);
}
