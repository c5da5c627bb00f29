/* SPDX-License-Identifier: Apache-2.0 */
/* Simulated NVML: enumeration and identity of GPUs. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "nvml_state.h"
#include "sim_devices.h"

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *deviceCount)
{
	if (nvml_count() < 0)
		return NVML_ERROR_UNINITIALIZED;
	if (deviceCount == NULL)
		return NVML_ERROR_INVALID_ARGUMENT;
	*deviceCount = (unsigned int)nvml_count();
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount(unsigned int *deviceCount)
{
	return nvmlDeviceGetCount_v2(deviceCount);
}

/* A lost GPU counts and has an index. Its handle is given all the same: clients do not look at it,
 * but our nvidia-smi asks it for the PCI address that its message names. */
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device)
{
	nvmlReturn_t result = NVML_SUCCESS;

	if (nvml_count() < 0)
		return NVML_ERROR_UNINITIALIZED;
	if (device == NULL || index >= (unsigned int)nvml_count())
		return NVML_ERROR_INVALID_ARGUMENT;
	*device = nvml_handle(index);
	(void)nvml_gpu(*device, &result);
	return result;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t *device)
{
	return nvmlDeviceGetHandleByIndex_v2(index, device);
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
	if (nvml_count() < 0)
		return NVML_ERROR_UNINITIALIZED;
	if (uuid == NULL || device == NULL)
		return NVML_ERROR_INVALID_ARGUMENT;
	for (unsigned int i = 0; i < (unsigned int)nvml_count(); i++) {
		nvmlReturn_t result = NVML_SUCCESS;
		const struct sim_gpu *gpu = nvml_place(nvml_handle(i), &result);

		if (gpu != NULL && strcasecmp(gpu->uuid, uuid) == 0)
			return nvmlDeviceGetHandleByIndex_v2(i, device);
	}
	*device = nvml_find_mig_uuid(uuid);
	return *device != NULL ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *pciBusId, nvmlDevice_t *device)
{
	uint32_t domain = 0, bus = 0, slot = 0;

	if (nvml_count() < 0)
		return NVML_ERROR_UNINITIALIZED;
	if (pciBusId == NULL || device == NULL ||
	    sim_parse_pci(pciBusId, &domain, &bus, &slot) != 0)
		return NVML_ERROR_INVALID_ARGUMENT;
	for (unsigned int i = 0; i < (unsigned int)nvml_count(); i++) {
		nvmlReturn_t result = NVML_SUCCESS;
		const struct sim_gpu *gpu = nvml_place(nvml_handle(i), &result);

		if (gpu != NULL && gpu->pci_domain == domain && gpu->pci_bus == bus &&
		    gpu->pci_device == slot)
			return nvmlDeviceGetHandleByIndex_v2(i, device);
	}
	return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *pciBusId, nvmlDevice_t *device)
{
	return nvmlDeviceGetHandleByPciBusId_v2(pciBusId, device);
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length)
{
	char text[NVML_DEVICE_NAME_V2_BUFFER_SIZE];
	const struct nvml_mig *mig = nvml_mig(device);
	NVML_QUERY_BY(nvml_parent, gpu, device, name != NULL);

	if (sim_config()->fault == SIM_FAULT_NVML_CRASH_QUERY)
		nvml_crash();
	if (mig == NULL)
		return nvml_copy(name, length, gpu->name);
	sim_format_mig(gpu, mig->mig, text, sizeof text);
	return nvml_copy(name, length, text);
}

nvmlReturn_t nvmlDeviceGetBrand(nvmlDevice_t device, nvmlBrandType_t *type)
{
	NVML_QUERY(gpu, device, type != NULL);

	*type = (nvmlBrandType_t)gpu->brand;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index)
{
	const struct nvml_mig *mig = nvml_mig(device);
	NVML_QUERY_BY(nvml_parent, gpu, device, index != NULL);

	(void)gpu;
	*index = mig != NULL ? mig->index : nvml_index(device);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length)
{
	const struct nvml_mig *mig = nvml_mig(device);
	NVML_QUERY_BY(nvml_parent, gpu, device, uuid != NULL);

	return nvml_copy(uuid, length, mig != NULL ? mig->mig->uuid : gpu->uuid);
}

nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int *minorNumber)
{
	NVML_QUERY(gpu, device, minorNumber != NULL);

	*minorNumber = gpu->minor;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetVbiosVersion(nvmlDevice_t device, char *version, unsigned int length)
{
	NVML_QUERY(gpu, device, version != NULL);

	return nvml_copy(version, length, gpu->vbios);
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
	NVML_QUERY_BY(nvml_place, gpu, device, pci != NULL);

	memset(pci, 0, sizeof *pci);
	(void)snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "%04X:%02X:%02X.0",
	               gpu->pci_domain & 0xffff, gpu->pci_bus & 0xff, gpu->pci_device & 0x1f);
	sim_format_pci(gpu, pci->busId, sizeof pci->busId);
	pci->domain = gpu->pci_domain;
	pci->bus = gpu->pci_bus;
	pci->device = gpu->pci_device;
	pci->pciDeviceId = gpu->pci_id;
	pci->pciSubSystemId = gpu->pci_subsystem;
	return NVML_SUCCESS;
}

/* Callers of the old symbols have a smaller struct: it ends after pciDeviceId and four reserved
 * words (_v2: pciSubSystemId and four). Only what all versions share is written. */
nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
	nvmlPciInfo_t whole;
	nvmlReturn_t result;

	if (pci == NULL)
		return NVML_ERROR_INVALID_ARGUMENT;
	result = nvmlDeviceGetPciInfo_v3(device, &whole);
	if (result == NVML_SUCCESS)
		memcpy(pci, &whole, offsetof(nvmlPciInfo_t, busId));
	return result;
}

nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
	return nvmlDeviceGetPciInfo_v2(device, pci);
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
	NVML_QUERY(gpu, device, major != NULL && minor != NULL);

	*major = (int)gpu->compute_major;
	*minor = (int)gpu->compute_minor;
	return NVML_SUCCESS;
}
