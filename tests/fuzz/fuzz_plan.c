/* SPDX-License-Identifier: Apache-2.0 */
/* needs: error plan */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "nvc_plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nvc_plan plan;
	struct nvc_error err;
	uint8_t *copy = malloc(size + 1); /* aligned, as the caller promises */

	if (copy == NULL)
		abort();
	memcpy(copy, data, size);
	if (nvc_plan_open(copy, size, &plan, &err) == 0) {
		for (uint32_t i = 0; i < plan.count; i++) {
			const struct nvc_op *op = &plan.ops[i];
			const char *path = nvc_plan_text(&plan, op->path);

			/* Promised: every text can be read, and every path stays below the root. */
			if (op->kind != NVC_OP_DEVICE_ACCESS &&
			    (path[0] != '/' || strstr(path, "/../") != NULL))
				abort();
			if (strlen(nvc_plan_text(&plan, op->arg)) > size ||
			    strlen(nvc_plan_text(&plan, op->origin)) > size ||
			    (const uint8_t *)nvc_plan_text(&plan, op->data) + op->data_len >
			        copy + size)
				abort();
		}
	}
	free(copy);
	return 0;
}
