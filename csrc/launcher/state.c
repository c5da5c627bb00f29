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

int state_pid(const uint8_t *json, size_t len, const char **why)
{
	struct nvc_json state, key, value;
	struct nvc_json_items members;
	int pid = 0, found = 0;

	*why = "not a JSON object in UTF-8";
	if (!nvc_json_read((const char *)json, len, &state) ||
	    !nvc_json_enter(state, '{', &members))
		return -1;
	while (nvc_json_next(&members, &key, &value) == 1) {
		if (nvc_json_is(key, "pid")) {
			found++;
			pid = to_pid(value);
		}
	}
	if (found == 1 && pid > 0)
		return pid;
	*why = found == 0  ? "it has no pid"
	       : found > 1 ? "it has more than one pid"
	                   : "its pid is not the number of a process";
	return -1;
}
