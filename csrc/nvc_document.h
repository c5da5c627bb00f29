/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration of an OCI container, as far as it is plain: what a kept plan depends on of it,
 * and the edit that a kept plan makes. Python reads and edits all others; it decides what is kept,
 * after it has compared this edit with its own.
 *
 * All of it may be an image's. Whatever is unusual (an escape where a name could hide, a member
 * twice, null, of another type, a mount that names devices, a user namespace) makes a configuration
 * not plain. Privileges: none. Fork class: any. */
#pragma once

#include <stdint.h>
#include <stdio.h>

#include "nvc_json.h"

/* Strings with a NUL behind each. */
struct nvc_strings {
	const char *at;
	size_t len;
};

/* Values as they are written; `at` is NULL for those that are missing. */
struct nvc_document {
	struct nvc_json whole, version, process, root, mounts, annotations, on_linux, hooks;
	struct nvc_json env, capabilities, bounding;
	struct nvc_json path; /* of the root */
	struct nvc_json namespaces, devices, resources, rules;
	struct nvc_json prestart, create_runtime;
	bool is_privileged;
};

/* What is put into it. `nodes` and `rules` are elements of JSON with commas between. */
struct nvc_edit {
	struct nvc_json nodes, rules;
	struct nvc_strings node_paths,
	    majors;                           /* of those: where they are already, Python decides */
	struct nvc_json hook_head, hook_tail; /* of an object; between them come two strings: */
	const char *plan, *rootfs; /* without a plan none, and the hook is the last at prestart */
};

/* Find the parts of a configuration. False if it is not plain. */
bool nvc_document_read(const char *json, size_t len, struct nvc_document *out);

/* Write all that decides what the container gets: what of its environment and annotations holds one
 * of the `asks`, or may name a capability or requirement, and whether it is privileged. False where
 * that is not plain. */
bool nvc_document_key(const struct nvc_document *document, struct nvc_strings asks, FILE *out);

/* Write the configuration with an edit. False if it cannot be made by inserting text alone. */
bool nvc_document_edit(const struct nvc_document *document, const struct nvc_edit *edit, FILE *out);
