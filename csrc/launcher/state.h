/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a container, as an OCI runtime gives it to a hook: JSON, of which annotations may
 * hold anything that an image or a user likes. Privileges: none. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "nvc_json.h"

struct state {
	int pid;            /* -1: none */
	const char *no_pid; /* and why */
	struct nvc_json
	    bundle; /* a path as written, without escapes; at: NULL where that is not so */
	struct nvc_json root; /* the same of the container's root, which crun names */
	bool is_odd;          /* it names the root in another way, or not plainly */
};

/* Take the top-level members of a document. False: it is no JSON object in UTF-8. A pid is one
 * integer from 1 to 2^31 - 1; crun has 0 where hooks run in the container. */
bool state_read(const char *json, size_t len, struct state *out);
