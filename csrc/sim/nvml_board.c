/* SPDX-License-Identifier: Apache-2.0 */
/* Simulated NVML: memory, sensors, modes and processes of an idle board. */
#include <stdbool.h>
#include <stddef.h>

#include "nvml_state.h"

/* Memory of a whole GPU, or of a MIG device: nothing of that is in use. */
static nvmlReturn_t find_memory(nvmlDevice_t device, nvmlMemory_v2_t *memory, bool valid)
{
	const struct nvml_mig *mig = nvml_mig(device);
	NVML_QUERY_BY(nvml_parent, gpu, device, valid);

	memory->total = mig != NULL ? mig->mig->memory_total : gpu->memory_total;
	memory->reserved = mig != NULL ? 0 : gpu->memory_reserved;
	memory->used = mig != NULL ? 0 : gpu->memory_used;
	memory->free = memory->total - memory->reserved - memory->used;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
	nvmlMemory_v2_t found;
	nvmlReturn_t result = find_memory(device, &found, memory != NULL);

	if (result != NVML_SUCCESS)
		return result;
	memory->total = found.total;
	memory->free = found.free;
	memory->used = found.reserved + found.used;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
	nvmlMemory_v2_t found;
	nvmlReturn_t result = find_memory(device, &found, memory != NULL);

	if (result != NVML_SUCCESS)
		return result;
	if (memory->version != nvmlMemory_v2)
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	found.version = memory->version;
	*memory = found;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization)
{
	NVML_QUERY(gpu, device, utilization != NULL);

	if (gpu->mig_mode != 0)
		return NVML_ERROR_NOT_SUPPORTED;
	utilization->gpu = 0;
	utilization->memory = 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensorType,
                                      unsigned int *temp)
{
	NVML_QUERY(gpu, device, temp != NULL && sensorType == NVML_TEMPERATURE_GPU);

	*temp = gpu->temperature;
	return NVML_SUCCESS;
}

/* None of the simulated boards has a fan of its own. */
nvmlReturn_t nvmlDeviceGetFanSpeed(nvmlDevice_t device, unsigned int *speed)
{
	NVML_QUERY(gpu, device, speed != NULL);

	(void)gpu;
	return NVML_ERROR_NOT_SUPPORTED;
}

static nvmlReturn_t known(unsigned int value, unsigned int *out)
{
	if (value == 0)
		return NVML_ERROR_NOT_SUPPORTED;
	*out = value;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *power)
{
	NVML_QUERY(gpu, device, power != NULL);

	return known(gpu->power_usage, power);
}

nvmlReturn_t nvmlDeviceGetPowerManagementLimit(nvmlDevice_t device, unsigned int *limit)
{
	NVML_QUERY(gpu, device, limit != NULL);

	return known(gpu->power_limit, limit);
}

nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, unsigned int *limit)
{
	return nvmlDeviceGetPowerManagementLimit(device, limit);
}

nvmlReturn_t nvmlDeviceGetPerformanceState(nvmlDevice_t device, nvmlPstates_t *pState)
{
	NVML_QUERY(gpu, device, pState != NULL);

	*pState = (nvmlPstates_t)gpu->performance;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t device, nvmlEnableState_t *mode)
{
	NVML_QUERY(gpu, device, mode != NULL);

	*mode = gpu->persistence != 0 ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t device, nvmlComputeMode_t *mode)
{
	NVML_QUERY(gpu, device, mode != NULL);

	(void)gpu;
	*mode = NVML_COMPUTEMODE_DEFAULT;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetDisplayMode(nvmlDevice_t device, nvmlEnableState_t *display)
{
	NVML_QUERY(gpu, device, display != NULL);

	(void)gpu;
	*display = NVML_FEATURE_DISABLED;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetDisplayActive(nvmlDevice_t device, nvmlEnableState_t *isActive)
{
	return nvmlDeviceGetDisplayMode(device, isActive);
}

nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, nvmlEnableState_t *current,
                                  nvmlEnableState_t *pending)
{
	NVML_QUERY(gpu, device, current != NULL && pending != NULL);

	if (gpu->ecc == 0)
		return NVML_ERROR_NOT_SUPPORTED;
	*current = NVML_FEATURE_ENABLED;
	*pending = NVML_FEATURE_ENABLED;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t errorType,
                                         nvmlEccCounterType_t counterType,
                                         unsigned long long *eccCounts)
{
	NVML_QUERY(gpu, device,
	           eccCounts != NULL && errorType < NVML_MEMORY_ERROR_TYPE_COUNT &&
	               counterType < NVML_ECC_COUNTER_TYPE_COUNT);

	if (gpu->ecc == 0)
		return NVML_ERROR_NOT_SUPPORTED;
	*eccCounts = 0;
	return NVML_SUCCESS;
}

/* Nobody computes on a simulated GPU: every list is empty, whatever its version. */
static nvmlReturn_t no_processes(nvmlDevice_t device, unsigned int *count)
{
	NVML_QUERY_BY(nvml_parent, gpu, device, count != NULL);

	(void)gpu;
	*count = 0;
	return NVML_SUCCESS;
}

#define NO_PROCESSES(function, type)                                                               \
	nvmlReturn_t function(nvmlDevice_t device, unsigned int *infoCount, type *infos)           \
	{                                                                                          \
		(void)infos;                                                                       \
		return no_processes(device, infoCount);                                            \
	}

NO_PROCESSES(nvmlDeviceGetComputeRunningProcesses, nvmlProcessInfo_v1_t)
NO_PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, nvmlProcessInfo_v2_t)
NO_PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, nvmlProcessInfo_t)
NO_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses, nvmlProcessInfo_v1_t)
NO_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, nvmlProcessInfo_v2_t)
NO_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, nvmlProcessInfo_t)
NO_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses, nvmlProcessInfo_v1_t)
NO_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v2, nvmlProcessInfo_v2_t)
NO_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3, nvmlProcessInfo_t)
