/* SPDX-License-Identifier: Apache-2.0 */
#include "prestart.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "front.h"
#include "give.h"
#include "kept.h"
#include "nvc_cleanup.h"
#include "state.h"

#define CONFIG       "/etc/nvidia-container-runtime/config.toml"
#define DOCUMENT_MAX (16u << 20)

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

static bool give(const struct self *self, const struct front *front,
                 const struct nvc_document *document, const struct state *state)
{
	__attribute__((cleanup(nvc_bytes_free))) struct nvc_bytes key = {.data = NULL};
	auto_file struct file file = {.data = NULL};
	char rootfs[PATH_MAX];
	/* The same on the host, and so in the container's mount namespace still. */
	struct container container = {.pid = state->pid, .rootfs = rootfs};
	struct kept kept;

	return follow(state->bundle, document->path, rootfs) && container_find(&container) &&
	       kept_key(self, front, document, container.seen, &key) &&
	       kept_load(NVC_VERSION, &key, &file, &kept) &&
	       give_kept(&container, kept.result, "nvidia-container-cli");
}

bool prestart_kept(const struct self *self, const struct file *state)
{
	auto_file struct file document_file = {.data = NULL}, front_file = {.data = NULL};
	const char *config = getenv("NVIDIA_CTK_CONFIG_FILE_PATH"), *why;
	struct state named;
	struct nvc_document document;
	struct front front;

	if (config == NULL || config[0] == '\0')
		config = CONFIG;
	return geteuid() == 0 && kept_in_first_user_namespace() &&
	       state_read(state->data, state->len, &named, &why) &&
	       front_load(NVC_VERSION, config, &front_file, &front) &&
	       read_document(&named, &document_file, &document) &&
	       give(self, &front, &document, &named);
}
