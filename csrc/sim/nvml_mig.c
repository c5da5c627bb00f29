/* SPDX-License-Identifier: Apache-2.0 */
/* Simulated NVML: MIG mode of GPUs, and the MIG devices that this process may use. */
#include <stddef.h>

#include "nvml_state.h"

/* Open a query that only a MIG device can answer. */
#define MIG_QUERY(mig, device, valid)                                                              \
	const struct nvml_mig *mig = nvml_mig(device);                                             \
                                                                                                   \
	if (nvml_count() < 0)                                                                      \
		return NVML_ERROR_UNINITIALIZED;                                                   \
	if (mig == NULL || !(valid))                                                               \
	return NVML_ERROR_INVALID_ARGUMENT

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *currentMode,
                                  unsigned int *pendingMode)
{
	NVML_QUERY(gpu, device, currentMode != NULL && pendingMode != NULL);

	if (gpu->mig_devices == 0)
		return NVML_ERROR_NOT_SUPPORTED;
	*currentMode = gpu->mig_mode != 0 ? NVML_DEVICE_MIG_ENABLE : NVML_DEVICE_MIG_DISABLE;
	*pendingMode = *currentMode;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *count)
{
	NVML_QUERY(gpu, device, count != NULL);

	*count = gpu->mig_mode != 0 ? gpu->mig_devices : 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index,
                                                 nvmlDevice_t *migDevice)
{
	NVML_QUERY(gpu, device, migDevice != NULL);

	if (gpu->mig_devices == 0)
		return NVML_ERROR_NOT_SUPPORTED;
	if (index >= gpu->mig_devices)
		return NVML_ERROR_INVALID_ARGUMENT;
	*migDevice = nvml_find_mig(nvml_index(device), index);
	return *migDevice != NULL ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t migDevice,
                                                          nvmlDevice_t *device)
{
	MIG_QUERY(mig, migDevice, device != NULL);

	*device = nvml_handle(mig->parent);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned int *isMigDevice)
{
	const struct nvml_mig *mig = nvml_mig(device);
	NVML_QUERY_BY(nvml_parent, gpu, device, isMigDevice != NULL);

	(void)gpu;
	*isMigDevice = mig != NULL;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned int *id)
{
	MIG_QUERY(mig, device, id != NULL);

	*id = mig->mig->gpu_instance;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned int *id)
{
	MIG_QUERY(mig, device, id != NULL);

	*id = mig->mig->compute_instance;
	return NVML_SUCCESS;
}
