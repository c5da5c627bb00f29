/* SPDX-License-Identifier: Apache-2.0 */
#include "bundle.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#define DOCUMENT_MAX (16u << 20)

bool bundle_read(const struct state *state, struct file *file, struct nvc_document *document)
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
	       nvc_document_read(file->data, file->len, document);
}

bool bundle_follow(const struct state *state, struct nvc_json path, char out[PATH_MAX])
{
	struct nvc_json directory = state->bundle;
	char joined[PATH_MAX];
	bool is_absolute = *path.at == '/';

	if (!is_absolute && (directory.at == NULL || *directory.at != '/'))
		return false;
	int len = snprintf(joined, sizeof joined, "%.*s%s%.*s",
	                   is_absolute ? 0 : (int)(directory.end - directory.at), directory.at,
	                   is_absolute ? "" : "/", (int)(path.end - path.at), path.at);

	return len > 0 && (size_t)len < sizeof joined && realpath(joined, out) != NULL;
}
