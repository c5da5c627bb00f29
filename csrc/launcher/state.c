/* SPDX-License-Identifier: Apache-2.0 */
#include "state.h"

#include "nvc_json.h"

/* A positive integer of 31 bits; -1 if the value is something else. */
static int to_pid(struct nvc_json value)
{
	int pid = 0;

	for (; value.at < value.end; value.at++) {
		if (*value.at < '0' || *value.at > '9' || __builtin_mul_overflow(pid, 10, &pid) ||
		    __builtin_add_overflow(pid, *value.at - '0', &pid))
			return -1;
	}
	return pid > 0 ? pid : -1;
}

bool state_read(const char *json, size_t len, struct state *out)
{
	struct nvc_json state, key, value;
	struct nvc_json_items members;
	int pids = 0, bundles = 0;

	*out = (struct state){.pid = -1};
	if (!nvc_json_read(json, len, &state) || !nvc_json_enter(state, '{', &members))
		return false;
	while (nvc_json_next(&members, &key, &value) == 1) {
		if (nvc_json_is(key, "pid")) {
			pids++;
			out->pid = to_pid(value);
		} else if (nvc_json_is(key, "bundle")) {
			bundles++;
			if (!nvc_json_string(value, &out->bundle))
				bundles++;
		} else if (nvc_json_is(key, "root")) {
			out->is_odd |=
			    out->root.at != NULL || !nvc_json_string(value, &out->root) ||
			    nvc_json_has(out->root, "\\") || out->root.at == out->root.end;
		} else if (nvc_json_is(key, "bundlePath")) {
			out->is_odd = true;
		}
	}
	if (bundles != 1 || nvc_json_has(out->bundle, "\\"))
		out->bundle = (struct nvc_json){.at = NULL};
	if (pids == 1 && out->pid > 0)
		return true;
	out->pid = -1;
	out->no_pid = pids == 0  ? "it has no pid"
	              : pids > 1 ? "it has more than one pid"
	                         : "its pid is not the number of a process";
	return true;
}
