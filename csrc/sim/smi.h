/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated nvidia-smi: a client of whatever libnvidia-ml.so.1 the loader finds. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "nvml_abi.h"

/* What it calls. */
#define SMI_FUNCTIONS(X)                                                                           \
	X(nvmlInit_v2)                                                                             \
	X(nvmlShutdown)                                                                            \
	X(nvmlErrorString)                                                                         \
	X(nvmlSystemGetDriverVersion)                                                              \
	X(nvmlSystemGetNVMLVersion)                                                                \
	X(nvmlSystemGetCudaDriverVersion_v2)                                                       \
	X(nvmlDeviceGetCount_v2)                                                                   \
	X(nvmlDeviceGetHandleByIndex_v2)                                                           \
	X(nvmlDeviceGetName)                                                                       \
	X(nvmlDeviceGetUUID)                                                                       \
	X(nvmlDeviceGetIndex)                                                                      \
	X(nvmlDeviceGetVbiosVersion)                                                               \
	X(nvmlDeviceGetPciInfo_v3)                                                                 \
	X(nvmlDeviceGetCudaComputeCapability)                                                      \
	X(nvmlDeviceGetMigMode)                                                                    \
	X(nvmlDeviceGetMaxMigDeviceCount)                                                          \
	X(nvmlDeviceGetMigDeviceHandleByIndex)                                                     \
	X(nvmlDeviceGetMemoryInfo_v2)                                                              \
	X(nvmlDeviceGetUtilizationRates)                                                           \
	X(nvmlDeviceGetTemperature)                                                                \
	X(nvmlDeviceGetFanSpeed)                                                                   \
	X(nvmlDeviceGetPowerUsage)                                                                 \
	X(nvmlDeviceGetPowerManagementLimit)                                                       \
	X(nvmlDeviceGetEnforcedPowerLimit)                                                         \
	X(nvmlDeviceGetPerformanceState)                                                           \
	X(nvmlDeviceGetPersistenceMode)                                                            \
	X(nvmlDeviceGetComputeMode)                                                                \
	X(nvmlDeviceGetDisplayMode)                                                                \
	X(nvmlDeviceGetDisplayActive)                                                              \
	X(nvmlDeviceGetEccMode)                                                                    \
	X(nvmlDeviceGetTotalEccErrors)

#define SMI_MEMBER(function) __typeof__(&function) function;

struct smi {
	SMI_FUNCTIONS(SMI_MEMBER)
	unsigned int count; /* GPUs */
	int release;        /* of the driver: 535 */
};

/* Exit statuses of nvidia-smi besides NVML's error numbers. */
enum smi_exit {
	SMI_DONE = 0,
	SMI_USAGE = 1,
	SMI_INVALID_FIELD = 2,
	SMI_NO_DEVICES = 6,
	SMI_NO_DRIVER = 9,
	SMI_NO_LIBRARY = 12,
	SMI_OTHER = 255,
};

/* Load and initialise NVML. On failure print what users know and return the exit status. */
int smi_open(struct smi *smi);

/* How a message begins to name a GPU; its PCI address follows. */
const char *smi_gpu_word(const struct smi *smi);

/* The handle of a GPU. On failure print what users know, in the place of what they asked for, and
 * return the exit status. */
int smi_find_gpu(const struct smi *smi, unsigned int index, const char *word, nvmlDevice_t *gpu);

/* Print one line a GPU and MIG device: `-L`. */
int smi_print_list(const struct smi *smi);

/* Print the table: no option. */
int smi_print_table(const struct smi *smi);

/* Print values by name: `--query-gpu=FIELDS --format=FORMAT`, both lists separated by commas. */
int smi_print_query(const struct smi *smi, const char *fields, const char *format);

/* What is wrong with such a request, before there is a driver: SMI_DONE if nothing. */
int smi_check_query(const char *fields, const char *format);

/* A value of a GPU: how to ask for it and its unit or NULL. */
struct smi_field {
	const char *name, *alias, *unit;
	nvmlReturn_t (*get)(const struct smi *smi, nvmlDevice_t gpu, char *text, size_t size);
};

/* Whether a name, which may be NULL, is that word of `length` bytes. */
bool smi_same(const char *name, const char *word, size_t length);

/* Find a value by its name or alias; NULL: unknown. */
const struct smi_field *smi_find_field(const char *word, size_t length);

/* A value as text, without unit; "N/A" where the GPU has none, "ERR!" on failure. */
void smi_value(const struct smi *smi, nvmlDevice_t gpu, const char *field, char *text, size_t size);
