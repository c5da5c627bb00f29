/* SPDX-License-Identifier: Apache-2.0 */
/* The state of the simulated NVML between nvmlInit and nvmlShutdown: which GPUs this process was
 * let see. The one place with file-scope data: NVML's interface has no context to keep it in. */
#pragma once

#include "nvml_abi.h"
#include "sim_config.h"

/* A MIG device: the position of its GPU among the usable ones, and its own there. */
struct nvml_mig {
	const struct sim_mig *mig;
	unsigned int parent, index;
};

/* The GPU behind a handle; NULL with `*result` set: uninitialised, not a handle of ours, that of a
 * MIG device (which few questions can be asked about), lost. */
const struct sim_gpu *nvml_gpu(nvmlDevice_t device, nvmlReturn_t *result);

/* The same, where a MIG device can be asked, too: then the GPU that it is a part of. */
const struct sim_gpu *nvml_parent(nvmlDevice_t device, nvmlReturn_t *result);

/* The same, for what is known of a lost GPU too: where it was. */
const struct sim_gpu *nvml_place(nvmlDevice_t device, nvmlReturn_t *result);

/* The handle of the GPU at an index; NULL if there are fewer. */
nvmlDevice_t nvml_handle(unsigned int index);

/* The MIG device behind a handle; NULL: it is something else. */
const struct nvml_mig *nvml_mig(nvmlDevice_t device);

/* The handle of a MIG device, by its GPU's position and its index there, or by its UUID in any
 * case; NULL: there is none. */
nvmlDevice_t nvml_find_mig(unsigned int parent, unsigned int index);
nvmlDevice_t nvml_find_mig_uuid(const char *uuid);

/* Position of a GPU among the usable ones. */
unsigned int nvml_index(nvmlDevice_t device);

/* How many GPUs are usable; -1 before nvmlInit. */
int nvml_count(void);

/* Copy a string into a caller's buffer as NVML does. */
nvmlReturn_t nvml_copy(char *to, unsigned int length, const char *text);

/* Die as a broken driver does. */
void nvml_crash(void) __attribute__((noreturn));

/* Open a query: the GPU behind `device`, or return NVML's error from the function. */
#define NVML_QUERY(gpu, device, valid) NVML_QUERY_BY(nvml_gpu, gpu, device, valid)

#define NVML_QUERY_BY(find, gpu, device, valid)                                                    \
	nvmlReturn_t query_result = NVML_SUCCESS;                                                  \
	const struct sim_gpu *gpu = find(device, &query_result);                                   \
                                                                                                   \
	if (gpu == NULL)                                                                           \
		return query_result;                                                               \
	if (!(valid))                                                                              \
	return NVML_ERROR_INVALID_ARGUMENT
