/* SPDX-License-Identifier: Apache-2.0 */
/* The state of the simulated NVML between nvmlInit and nvmlShutdown: which GPUs this process was
 * let see. The one place with file-scope data: NVML's interface has no context to keep it in. */
#pragma once

#include "nvml_abi.h"
#include "sim_config.h"

/* The GPU behind a handle; NULL with `*result` set: uninitialised, not a handle of ours, lost. */
const struct sim_gpu *nvml_gpu(nvmlDevice_t device, nvmlReturn_t *result);

/* The same, for what is known of a lost GPU too: where it was. */
const struct sim_gpu *nvml_place(nvmlDevice_t device, nvmlReturn_t *result);

/* The handle of the GPU at an index; NULL if there are fewer. */
nvmlDevice_t nvml_handle(unsigned int index);

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
